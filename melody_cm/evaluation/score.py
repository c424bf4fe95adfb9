"""What a metric says: a value with its uncertainty, and everything that decides whether two values may be compared."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from melody_cm.evaluation.uncertainty import mean_interval

SIDES = ("generated", "reference")


@dataclass
class Score:
    """The result of one metric.

    Attributes:
        value: the plain estimate; None only where no clip was usable.
        corrected: the estimate without the bias that it has in small samples; None with too few samples.
        low, high: 95 % confidence interval of what `corrected` estimates; None where it cannot be told.
        method: how the interval was made, in words.
        n_generated, n_reference: clips on each side; None for reference statistics that do not tell theirs.
        too_few: fewer clips or groups on a side than the value needs to mean something (`frechet.is_too_few`).
        embedding: fields of the `EmbeddingIdentity` in which the value was measured; None for a metric without one.
        dropped: clips that were left out, by side and reason ("silent", "unreadable", "not finite", ...).
        details: further numbers that belong to this metric.
        warnings: one line each.
        groups: by side, the prompts or pieces that those clips are of, which is what an interval counts; empty where it
            was not asked.
        deviations: by side, what each group adds to the standard error (`Jackknifed`): two scores from the same groups
            are compared by the differences of these.
    """

    value: float | None
    corrected: float | None
    low: float | None
    high: float | None
    method: str
    n_generated: int
    n_reference: int | None
    too_few: bool
    embedding: dict[str, Any] | None = None
    dropped: dict[str, dict[str, int]] = field(default_factory=lambda: {side: {} for side in SIDES})
    details: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)
    deviations: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def bare(cls, value: float | None, method: str, n_generated: int, **more: Any) -> "Score":
        """A number of which no interval and no reference is known, but for the attributes that `more` sets."""
        unknown = dict.fromkeys(("corrected", "low", "high", "n_reference"))
        return cls(value, method=method, n_generated=n_generated, **(unknown | {"too_few": False} | more))

    @classmethod
    def mean(
        cls,
        values: Sequence[float],
        method: str,
        groups: Sequence[Hashable] | None = None,
        members: Sequence[Hashable] | None = None,
        **more: Any,
    ) -> "Score":
        """The mean of numbers (None for none) with Student's interval; `more` sets further attributes.

        Numbers that are not finite are left out and counted.

        Args:
            groups, members: what the numbers belong to, as in `mean_parts`.
        """
        told = [place for place, value in enumerate(values) if math.isfinite(value)]
        count, lost = len(told), len(values) - len(told)
        values = [values[place] for place in told]
        groups, members = (names and [names[place] for place in told] for names in (groups, members))
        value, (low, high) = sum(values) / count if count else None, mean_interval(values, groups, members)
        given = {"n_generated": count, "n_reference": None, "too_few": low is None}
        given["groups"] = {} if groups is None else {"generated": len(set(groups))}
        given["dropped"] = {"generated": {"other": lost} if lost else {}, "reference": {}}
        return cls(value, value if count > 1 else None, low, high, method, **(given | more))

    @property
    def best(self) -> float | None:
        """The corrected estimate where there is one, else the plain one."""
        return self.value if self.corrected is None else self.corrected

    def interval(self) -> str:
        """The interval in brackets; a dash where there is none."""
        return "-" if self.low is None or self.high is None else f"[{self.low:.4g}, {self.high:.4g}]"

    def plain(self) -> str:
        """The plain value, with a dagger for too few clips; a dash for none."""
        return "-" if self.value is None else f"{self.value:.4g}" + (" †" if self.too_few else "")

    def cell(self) -> str:
        """For a table: the corrected value with its interval, else the plain value; a dagger marks too few clips."""
        if self.value is None or self.low is None or self.high is None:
            return self.plain()
        return f"{self.best:.4g} {self.interval()}" + (" †" if self.too_few else "")

    def counts(self) -> str:
        """Clips on each side, and in brackets the prompts or pieces that they are of."""

        def side(name: str, clips: int | None) -> str:
            return ("?" if clips is None else str(clips)) + (f" ({self.groups[name]})" if name in self.groups else "")

        return f"{side('generated', self.n_generated)} / {side('reference', self.n_reference)}"

    def num_dropped(self) -> int:
        """Clips that were left out, of both sides."""
        return sum(sum(reasons.values()) for reasons in self.dropped.values())


def refuse_unlike(first: Score, second: Score) -> None:
    """Refuse to compare scores that were not measured in the same way.

    Raises:
        ValueError: their embeddings differ; the message names the parts that do, with both values.
    """
    one, other = first.embedding or {}, second.embedding or {}
    names = [name for name in one | other if one.get(name) != other.get(name)]
    if names:
        unlike = "; ".join(f"{name} {one.get(name)!r} against {other.get(name)!r}" for name in names)
        raise ValueError(f"these scores cannot be compared, their embeddings differ in {unlike}; measure both alike")


def unlike_n(first: Score, second: Score) -> str | None:
    """One sentence if the scores come from different numbers of clips (their plain values then differ by bias)."""
    sides = ((side, getattr(first, f"n_{side}"), getattr(second, f"n_{side}")) for side in SIDES)
    unlike = [f"{one} against {other} {side} clips" for side, one, other in sides if one != other]
    return f"unlike n: {', '.join(unlike)}; compare the corrected values" if unlike else None
