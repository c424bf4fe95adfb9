"""What a paper claims, and whether our own results bear it out: only intervals decide, never a point estimate."""

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
class Smaller:
    """The claim that one row has less of something than another.

    Args:
        text: the claim in words.
        smaller, larger: titles of rows.
        quantities: how the metric's key begins, so that any embedding will do; the first of them that has an interval
            decides.
    """

    text: str
    smaller: str
    larger: str
    quantities: Sequence[str]

    def judge(self, results: Results) -> Finding:
        """The verdict of our results: by a difference in pairs, else by the intervals of the two rows."""
        for quantity in self.quantities:
            found = self._paired(results, quantity) or self._apart(results, quantity)
            if found is not None:
                side, because = found
                verdicts: dict[int, Verdict] = {-1: "holds", 0: "not distinguishable", 1: "does not hold"}
                return Finding(self.text, verdicts[side], because)
        wanted = " or ".join(quantity.rstrip("_") for quantity in self.quantities)
        reason = f"no interval of {wanted}: too few clips or seeds, or unmeasured"
        return Finding(self.text, "not distinguishable", reason)

    def _paired(self, results: Results, quantity: str) -> tuple[int, str] | None:
        """The side of zero, after the correction, of a difference of the two rows, whichever way round it was taken."""
        for one in results.differences:
            if not one.metric.startswith(quantity) or one.low is None or one.high is None:
                continue
            if {one.first, one.second} == {self.smaller, self.larger}:
                low, high = (one.low, one.high) if one.first == self.smaller else (-one.high, -one.low)
                told = f"{one.metric}, {one.n} pairs: difference within [{low:.4g}, {high:.4g}]"
                corrected = "" if one.p_holm is None else f", p = {one.p_holm:.2g} of {len(results.tests())} tests"
                return 0 if one.verdict == "not distinguishable" else side_of_zero(low, high), told + corrected
        return None

    def _apart(self, results: Results, quantity: str) -> tuple[int, str] | None:
        """The intervals of the two rows; that of a distance that is mostly bias says nothing of the music."""
        key, ours = find(results, self.smaller, quantity)
        _, theirs = find(results, self.larger, quantity)
        if ours is None or theirs is None or ours.too_few or theirs.too_few:
            return None
        difference = apart(key, (self.smaller, ours), (self.larger, theirs))
        if difference.low is None or difference.high is None:
            return None
        side = side_of_zero(difference.low, difference.high)
        return side, f"{key}: {ours.interval()} against {theirs.interval()}"


@dataclass(frozen=True)
class Equal:
    """The claim that something which is counted, not estimated, has a value.

    Args:
        text: the claim in words.
        row: its title; quantity: how the metric's key begins.
        value: what it is to be, up to `tolerance`.
    """

    text: str
    row: str
    quantity: str
    value: float | int
    tolerance: float | int = 0

    def judge(self, results: Results) -> Finding:
        """The verdict of our results."""
        key, score = find(results, self.row, self.quantity)
        if score is None or score.value is None:
            return Finding(self.text, "not distinguishable", f"{self.quantity} of {self.row} was not measured")
        verdict: Verdict = "holds" if abs(score.value - self.value) <= self.tolerance else "does not hold"
        return Finding(self.text, verdict, f"{key} is {score.value:g}")


def find(results: Results, title: str, quantity: str) -> tuple[str, Score] | tuple[str, None]:
    """The first metric of a row whose key begins so, with its key."""
    of_row = (item for row in results.rows if row.title == title for item in row.metrics.items())
    return next(((key, score) for key, score in of_row if key.startswith(quantity)), ("", None))


def counted(value: float | int) -> Score:
    """A number that is exact."""
    return Score.bare(float(value), COUNTED, 1)
