"""How long music of MusicCM is laid out in time (arXiv 2404.13358, section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Windows = Literal["shared", "independent"]


@dataclass(frozen=True)
class Arrangement:
    """Which prompt holds when, whether the music is a loop, and how its windows are made.

    Attributes:
        prompt_at: (seconds, text), ascending: from then on that text holds; before the first, the clip's own prompt.
        loop: the end goes over into the beginning.
        windows: "shared" windows overlap and agree; "independent" ones lie end to end, which is the baseline.

    Raises:
        ValueError: times that do not ascend from 0 or later, empty texts, or a loop of independent windows.
    """

    prompt_at: Sequence[tuple[float | int, str]] = ()
    loop: bool = False
    windows: Windows = "shared"

    def __post_init__(self) -> None:
        times = [seconds for seconds, _ in self.prompt_at]
        if not all(0 <= seconds < math.inf for seconds in times) or any(a >= b for a, b in pairwise(times)):
            raise ValueError(f"prompts at {', '.join(f'{each:g}' for each in times)} s: give ascending times from 0 on")
        if empty := [seconds for seconds, text in self.prompt_at if not text.strip()]:
            raise ValueError(f"the prompt at {empty[0]:g} s is empty; give a text")
        if self.windows not in ("shared", "independent"):
            raise ValueError(f"windows are {self.windows!r}; give shared or independent")
        if self.loop and self.windows == "independent":
            raise ValueError("independent windows make no loop: none knows its neighbour; use shared windows")

    def check(self, seconds: float, max_seconds: float) -> None:
        """Refuse what does not fit music of that length.

        Raises:
            ValueError: a prompt time beyond the end, changing prompts in music of one window, or a loop shorter than
                a window.
        """
        if self.prompt_at and self.prompt_at[-1][0] >= seconds:
            raise ValueError(
                f"a prompt at {self.prompt_at[-1][0]:g} s, but the music has {seconds:g} s; give earlier times or ask "
                "for more seconds"
            )
        if self.prompt_at and seconds <= max_seconds:
            raise ValueError(
                f"{seconds:g} seconds are one window, which has one prompt; prompts change in music beyond "
                f"{max_seconds:g} s"
            )
        if self.loop and seconds < max_seconds:
            raise ValueError(
                f"a loop of {seconds:g} s is shorter than the window of {max_seconds:g} s; ask for at least that"
            )

    def prompt(self, seconds: float) -> int | None:
        """Which entry of `prompt_at` holds at that time; None before the first."""
        begun = [place for place, (start, _) in enumerate(self.prompt_at) if start <= seconds]
        return begun[-1] if begun else None

    def facts(self) -> dict[str, object]:
        """What differs from the plain arrangement, as plain data."""
        given = {
            "prompt_at": [list(each) for each in self.prompt_at],
            "loop": self.loop,
            "windows": self.windows if self.windows != "shared" else None,
        }
        return {name: value for name, value in given.items() if value}
