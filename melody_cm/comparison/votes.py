"""Votes of listening tests: the files that reports save, and the tables that are made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from melody_cm.data.texts import read_text
from melody_cm.evaluation.preferences import Vote, bradley_terry, groups_of, preferences
from melody_cm.evaluation.tables import Sheet
from melody_cm.evaluation.uncertainty import MIN_GROUPS

CHOICES = {"a": 1.0, "b": 0.0, "none": 0.5}


class Choice(msgspec.Struct, frozen=True):
    """One vote of a file: the clips of rows `a` and `b` for a prompt, and which was preferred, when."""

    prompt: str
    a: str
    b: str
    vote: Literal["a", "b", "none"]
    time: str


class Ballot(msgspec.Struct):
    """A file of votes.

    Attributes:
        comparison: a hash of what was compared; report: the title of its page.
        session: the listener.
    """

    schema_version: Literal[1]
    comparison: str
    report: str
    session: str
    votes: list[Choice]


def read_votes(files: Sequence[Path]) -> list[Vote]:
    """The votes of several files on one comparison; one that was saved twice counts once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or votes on another comparison; or there is no vote at all.
    """
    ballots = [read_ballot(file) for file in files]
    for file, ballot in zip(files, ballots, strict=True):
        if ballot.comparison != ballots[0].comparison:
            raise ValueError(
                f"{file} holds votes on {ballot.report} ({ballot.comparison}), but {files[0]} on {ballots[0].report} "
                f"({ballots[0].comparison}); give the files of one comparison"
            )
    cast = dict.fromkeys((ballot.session, choice) for ballot in ballots for choice in ballot.votes)
    if not cast:
        raise ValueError(f"no vote in {', '.join(map(str, files))}; listen, vote and save in report.html")
    return [Vote(one.a, one.b, CHOICES[one.vote], listener, one.prompt) for listener, one in cast]


def read_ballot(file: Path) -> Ballot:
    """The votes of one file; errors as of `read_votes`."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such file; give what the listening test of report.html saved")
    try:
        ballot = msgspec.json.decode(read_text(Path(file)), type=Ballot)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{file} is no file of votes ({error}); save it anew in report.html") from error
    if alike := [one for one in ballot.votes if one.a == one.b]:
        raise ValueError(f"{file}: a vote sets {alike[0].a} against itself; save it anew in report.html")
    return ballot


def vote_sheets(votes: Sequence[Vote]) -> list[Sheet]:
    """Preferences pair by pair, and the order of all rows where they all met."""
    return [_pairs(votes), _order(votes)]


def _pairs(votes: Sequence[Vote]) -> Sheet:
    lines = []
    for one in preferences(votes):
        interval = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
        counts = f"{one.wins} / {one.losses} / {one.neither}"
        p = "-" if one.p_holm is None else f"{one.p_holm:.2g}"
        lines.append([one.first, one.second, counts, f"{one.share:.2f}{interval}", p, one.verdict])
    headings = ["first", "second", "first / second / neither", "first preferred [95 %]", "p (Holm)", "the first is"]
    return Sheet(headings, lines, _notes(votes), "Preferences")


def _notes(votes: Sequence[Vote]) -> list[str]:
    kind, groups = groups_of(votes)
    listeners = len({vote.listener for vote in votes})
    notes = [
        f"{len(votes)} votes of {listeners} listener(s) on {len({vote.prompt for vote in votes})} prompt(s); neither "
        "counts half for each.",
        f"Intervals: Wilson's, of as many independent votes as those of {len(set(groups))} {kind} are worth. p: "
        f"score test of 0.5, with Holm's correction over all pairs of at least {MIN_GROUPS} {kind}.",
    ]
    if kind == "prompts":
        notes.append(
            f"Fewer than {MIN_GROUPS} listeners: what is told holds of other prompts, not of other people. More "
            "listeners: melody-cm votes FILE FILE ..."
        )
    return notes


def _order(votes: Sequence[Vote]) -> Sheet:
    headings = ["row", "place", "strength [95 %]", "votes"]
    title = "Bradley-Terry order"
    try:
        order = bradley_terry(votes)
    except ValueError as reason:
        return Sheet(headings, [], [f"{reason}."], title)
    lines = []
    for place, one in enumerate(order, start=1):
        interval = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
        lines.append([one.row, str(place), f"{one.value:.2f}{interval}", str(one.votes)])
    note = (
        "strength: around a mean of 0; a row that is 1.1 stronger is preferred in three of four votes. Maximum "
        "likelihood, as if every pair had met once more without a winner; intervals by the likelihood, or by the "
        "differences between groups where those are larger."
    )
    return Sheet(headings, lines, [note], title)
