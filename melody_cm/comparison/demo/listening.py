"""A blind listening test: two systems on one prompt, drawn by chance, and the votes of each listener in a file.

The files are those that the listening test of a report saves (`comparison/report/page.js`).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from melody_cm.audio import GeneratedAudio
from melody_cm.comparison.report.clips import loudness_gain
from melody_cm.comparison.votes import CHOICES, Ballot, Choice, read_ballot
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.storage import hash_data, write_json

SEEDS = 2**31


@dataclass(frozen=True)
class Pair:
    """The two rows that are heard: `SYSTEM, N steps`, as a report names them."""

    prompt: str
    a: str
    b: str


def draw_pair(
    systems: Mapping[str, PretrainedPipeline], prompt: str, seconds: float | int
) -> tuple[Pair, list[GeneratedAudio]]:
    """Two systems by chance, in an order by chance, with what each makes of the prompt, equally loud.

    Raises:
        ValueError: fewer than two systems, or a request that one of them cannot fulfil.
    """
    if len(systems) < 2:
        raise ValueError("a listening test needs two systems; name more of them")
    names, seed = random.sample(list(systems), 2), random.randrange(SEEDS)
    clips = [systems[name].generate(prompt, seconds, seed) for name in names]
    titles = [f"{name}, {systems[name].num_steps} steps" for name in names]
    gains = [loudness_gain(clip.waveform.flatten()) for clip in clips]
    loud = [replace(clip, waveform=clip.waveform * gain) for clip, gain in zip(clips, gains, strict=True)]
    return Pair(prompt, *titles), loud


@dataclass
class Votes:
    """The votes on some systems, a file for each listener: `votes_SESSION.json`.

    Attributes:
        folder: made with the first vote.
        systems: by the names that are voted for.
    """

    folder: Path
    systems: Mapping[str, PretrainedPipeline]

    @property
    def comparison(self) -> str:
        """What votes on the same systems have in common."""
        return hash_data({name: system.weight_hashes() for name, system in self.systems.items()})[:16]

    def add(self, session: str, pair: Pair, choice: str) -> int:
        """Keep a vote; returns how many this listener has given.

        Args:
            session: the listener.
            choice: a, b or none.

        Raises:
            ValueError: another choice.
        """
        if choice not in CHOICES:
            raise ValueError(f"a vote of {choice!r}; give one of {', '.join(CHOICES)}")
        file = self.folder / f"votes_{session[:8]}.json"
        ballot = read_ballot(file) if file.is_file() else Ballot(1, self.comparison, "melody-cm demo", session, [])
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        ballot.votes.append(Choice(pair.prompt, pair.a, pair.b, choice, time))
        write_json(file, msgspec.to_builtins(ballot))
        return len(ballot.votes)
