"""What a paper claims, and whether our own measurements bear it out: only intervals decide, never a point estimate."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["holds", "does not hold", "not distinguishable"]


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        row: what was measured, e.g. "melody, 5 steps"; quantity: which of its properties, e.g. "fad_logmel".
        low, high: 95 % interval, or the range of repetitions of a speed; None where it cannot be told.
        n: clips, seeds or repetitions; None for what is counted.
    """

    row: str
    quantity: str
    value: float | int
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Difference:
    """The mean of `first` - `second` over pairs of the same prompt or seed, with its 95 % interval."""

    first: str
    second: str
    quantity: str
    low: float
    high: float
    n: int


@dataclass
class Measurements:
    """All that one experiment gave; quantities are looked up by how they begin, so that any embedding will do."""

    numbers: list[Number] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def number(self, row: str, quantity: str) -> Number | None:
        """The first one that fits."""
        return next((one for one in self.numbers if one.row == row and one.quantity.startswith(quantity)), None)

    def difference(self, first: str, second: str, quantity: str) -> Difference | None:
        """The same, whichever way round it was measured."""
        for one in self.differences:
            if one.quantity.startswith(quantity) and (one.first, one.second) == (first, second):
                return one
            if one.quantity.startswith(quantity) and (one.first, one.second) == (second, first):
                return Difference(first, second, one.quantity, -one.high, -one.low, one.n)
        return None


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
    def judge(self, measured: Measurements) -> Finding:
        """The verdict of our measurements."""


@dataclass(frozen=True)
class Smaller(Claim):
    """That one row has less of something than another.

    Args:
        smaller, larger: rows.
        quantities: how the quantity's name begins; the first of them that has an interval decides.
    """

    smaller: str
    larger: str
    quantities: Sequence[str]

    def judge(self, measured: Measurements) -> Finding:
        for quantity in self.quantities:
            found = self._paired(measured, quantity) or self._apart(measured, quantity)
            if found is not None:
                return found
        wanted = " or ".join(quantity.rstrip("_") for quantity in self.quantities)
        return Finding(
            self.text, "not distinguishable", f"no interval of {wanted}: too few clips or seeds, or unmeasured"
        )

    def _paired(self, measured: Measurements, quantity: str) -> Finding | None:
        pair = measured.difference(self.smaller, self.larger, quantity)
        if pair is None:
            return None
        verdict: Verdict = "not distinguishable"
        if pair.high < 0:
            verdict = "holds"
        elif pair.low > 0:
            verdict = "does not hold"
        because = f"{pair.quantity}, {pair.n} pairs: difference within [{pair.low:.4g}, {pair.high:.4g}]"
        return Finding(self.text, verdict, because)

    def _apart(self, measured: Measurements, quantity: str) -> Finding | None:
        one, other = measured.number(self.smaller, quantity), measured.number(self.larger, quantity)
        if one is None or other is None or None in (one.low, one.high, other.low, other.high):
            return None
        verdict: Verdict = "not distinguishable"
        if one.high < other.low:
            verdict = "holds"
        elif one.low > other.high:
            verdict = "does not hold"
        intervals = f"[{one.low:.4g}, {one.high:.4g}] against [{other.low:.4g}, {other.high:.4g}]"
        return Finding(self.text, verdict, f"{one.quantity}: {intervals}")


@dataclass(frozen=True)
class Equal(Claim):
    """That something which is counted, not estimated, has a value.

    Args:
        row, quantity: of the number; value: what it is to be, up to `tolerance`.
    """

    row: str
    quantity: str
    value: float | int
    tolerance: float | int = 0

    def judge(self, measured: Measurements) -> Finding:
        found = measured.number(self.row, self.quantity)
        if found is None:
            return Finding(self.text, "not distinguishable", f"{self.quantity} of {self.row} was not measured")
        verdict: Verdict = "holds" if abs(found.value - self.value) <= self.tolerance else "does not hold"
        return Finding(self.text, verdict, f"{found.quantity} is {found.value:g}")
