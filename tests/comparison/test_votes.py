"""Files of votes: what is read, what is refused, and the tables of `melody-cm votes`."""

import json

import pytest

from melody_cm.cli.main import main
from melody_cm.comparison.votes import read_votes, vote_sheets


def ballot(folder, listener, *votes, **changes):
    cast = [
        {"prompt": prompt, "a": a, "b": b, "vote": vote, "time": f"2026-01-01T00:00:{place:02d}Z"}
        for place, (prompt, a, b, vote) in enumerate(votes)
    ]
    content = {"schema_version": 1, "comparison": "c", "report": "x and y", "session": listener, "votes": cast}
    file = folder / f"{listener}.json"
    file.write_text(json.dumps(content | changes))
    return file


def test_votes_of_all_listeners_are_read_and_one_that_was_saved_twice_counts_once(tmp_path):
    early = ballot(tmp_path, "me", ("calm", "x", "y", "a"))
    early = early.rename(tmp_path / "early.json")
    early.write_text(early.read_text(), encoding="utf-8-sig")  # As some editors save it.
    later = ballot(tmp_path, "me", ("calm", "x", "y", "a"), ("loud", "y", "x", "none"))
    other = ballot(tmp_path, "you", ("calm", "x", "y", "b"))
    found = read_votes([early, later, other])
    assert [(vote.first, vote.choice, vote.listener) for vote in found] == [
        ("x", 1.0, "me"),
        ("y", 0.5, "me"),
        ("x", 0.0, "you"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"votes": []}, "no vote in"),
        ({"schema_version": 2}, "is no file of votes"),
        ({"votes": [{"prompt": "p", "a": "x", "b": "y", "vote": "c", "time": ""}]}, "is no file of votes"),
        ({"votes": [{"prompt": "p", "a": "x", "b": "x", "vote": "a", "time": ""}]}, "sets x against itself"),
    ],
)
def test_what_is_no_file_of_votes_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_votes([ballot(tmp_path, "me", **changes)])


def test_votes_on_unlike_comparisons_are_not_mixed(tmp_path):
    files = [ballot(tmp_path, name, ("p", "x", "y", "a"), comparison=name) for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"two.json holds votes on x and y \(two\)"):
        read_votes(files)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_votes([tmp_path / "none.json"])


def test_the_command_prints_both_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    prompts = [f"prompt {place}" for place in range(9)]
    file = ballot(tmp_path, "me", *[(prompt, "x, 1 step", "y, 5 steps", "a") for prompt in prompts])
    assert main(["votes", str(file)]) == 0
    told = capsys.readouterr().out
    assert "9 / 0 / 0" in told
    assert "preferred" in told
    assert "Bradley-Terry order" in told
    assert "not of other people" in told


def test_rows_that_never_met_have_no_order_but_preferences(tmp_path):
    file = ballot(tmp_path, "me", ("p", "a", "b", "a"), ("q", "c", "d", "b"))
    pairs, order = vote_sheets(read_votes([file]))
    assert len(pairs.lines) == 2
    assert order.lines == []
    assert "never met" in order.notes[0]
