"""What a paper claims, and whether our own results bear it out: only intervals decide, never a point estimate."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from melody_cm.evaluation.results import Results, apart, side_of_zero
from melody_cm.evaluation.score import Score

Verdict = Literal["holds", "does not hold", "not distinguishable"]
COUNTED = "counted"  # The method of a score that needs no interval.


@dataclass(frozen=True)
class Finding:
    """What became of a claim, and by which numbers."""

    claim: str
    verdict: Verdict
    because: str


@dataclass(frozen=True)
class Claim(ABC):
    """Something that a paper says; `text` puts it in words."""

    text: str

    @abstractmethod
    def judge(self, results: Results) -> Finding:
        """The verdict of our results."""


@dataclass(frozen=True)
class Smaller(Claim):
    """That one row has less of something than another.

    Args:
        smaller, larger: titles of rows.
        quantities: how the metric's key begins, so that any embedding will do; the first of them that has an interval
            decides.
    """

    smaller: str
    larger: str
    quantities: Sequence[str]

    def judge(self, results: Results) -> Finding:
        for quantity in self.quantities:
            found = self._paired(results, quantity) or self._apart(results, quantity)
            if found is not None:
                return found
        wanted = " or ".join(quantity.rstrip("_") for quantity in self.quantities)
        reason = f"no interval of {wanted}: too few clips or seeds, or unmeasured"
        return Finding(self.text, "not distinguishable", reason)

    def _paired(self, results: Results, quantity: str) -> Finding | None:
        """By a difference of the two rows, whichever way round it was taken."""
        for one in results.differences:
            if not one.metric.startswith(quantity) or one.low is None or one.high is None:
                continue
            if {one.first, one.second} == {self.smaller, self.larger}:
                low, high = (one.low, one.high) if one.first == self.smaller else (-one.high, -one.low)
                because = f"{one.metric}, {one.n} pairs: difference within [{low:.4g}, {high:.4g}]"
                return self._finding(low, high, because)
        return None

    def _apart(self, results: Results, quantity: str) -> Finding | None:
        """By the intervals of the two rows; that of a distance that is mostly bias says nothing of the music."""
        ours, theirs = (find(results, title, quantity) for title in (self.smaller, self.larger))
        if ours is None or theirs is None or ours[1].too_few or theirs[1].too_few:
            return None
        difference = apart(ours[0], (self.smaller, ours[1]), (self.larger, theirs[1]))
        if difference.low is None or difference.high is None:
            return None
        because = f"{ours[0]}: {ours[1].interval()} against {theirs[1].interval()}"
        return self._finding(difference.low, difference.high, because)

    def _finding(self, low: float, high: float, because: str) -> Finding:
        verdicts: dict[int, Verdict] = {-1: "holds", 0: "not distinguishable", 1: "does not hold"}
        return Finding(self.text, verdicts[side_of_zero(low, high)], because)


@dataclass(frozen=True)
class Equal(Claim):
    """That something which is counted, not estimated, has a value.

    Args:
        row: its title; quantity: how the metric's key begins.
        value: what it is to be, up to `tolerance`.
    """

    row: str
    quantity: str
    value: float | int
    tolerance: float | int = 0

    def judge(self, results: Results) -> Finding:
        found = find(results, self.row, self.quantity)
        if found is None or found[1].value is None:
            return Finding(self.text, "not distinguishable", f"{self.quantity} of {self.row} was not measured")
        key, value = found[0], found[1].value
        verdict: Verdict = "holds" if abs(value - self.value) <= self.tolerance else "does not hold"
        return Finding(self.text, verdict, f"{key} is {value:g}")


def find(results: Results, title: str, quantity: str) -> tuple[str, Score] | None:
    """The first metric of a row whose key begins so, with its key."""
    for row in results.rows:
        for key, score in row.metrics.items():
            if row.title == title and key.startswith(quantity):
                return key, score
    return None


def counted(value: float | int) -> Score:
    """A number that is exact."""
    return Score(float(value), None, None, None, COUNTED, 1, None, False)
