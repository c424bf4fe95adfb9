"""How sure a number is: 95 % intervals of means, and the grouped jackknife."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from scipy import stats
from torch import Tensor

from melody_cm.randomness import keyed_generator

LEVEL = 0.95  # Of all intervals.


class LeftOut(NamedTuple):
    """An estimate without each group in turn: values (g,), and how many clips each group holds: sizes (g,)."""

    values: Float64[Tensor, " g"]
    sizes: Int64[Tensor, " g"]


class Jackknifed(NamedTuple):
    """An estimate without its bias of order 1/n, and the confidence interval around it."""

    corrected: float
    low: float
    high: float


def jackknife(value: float, sides: Sequence[LeftOut]) -> Jackknifed | None:
    """The grouped jackknife for groups of unequal size (Busing, Meijer and van der Leeden, 1999).

    Independent samples are left out one after the other: their biases and their variances add up, and the interval is
    Student's with Satterthwaite's degrees of freedom.

    Args:
        value: the estimate from everything.
        sides: one for each independent sample, of at least two groups; without any, nothing can be told: None.
    """
    if not sides:
        return None
    corrected, parts = value, []
    for values, sizes in sides:
        ratio = sizes.sum() / sizes.double()
        side = (len(sizes) * value - ((1 - 1 / ratio) * values).sum()).item()
        pseudo = ratio * value - (ratio - 1) * values
        parts.append((((pseudo - side).square() / (ratio - 1)).mean().item(), len(sizes) - 1))
        corrected += side - value
    half = _half_width(parts)
    return Jackknifed(corrected, corrected - half, corrected + half)


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Of Student's interval, from the variance and the degrees of freedom of each independent part."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)


def mean_interval(total: float, squares: float, n: int) -> tuple[float | None, float | None]:
    """Student's interval of a mean, from the sum and the sum of squares of n numbers; nothing for n < 2."""
    if n < 2:
        return None, None
    variance = max(squares - total**2 / n, 0.0) / (n - 1)
    half = _half_width([(variance / n, n - 1)])
    return total / n - half, total / n + half


def student_interval(numbers: Sequence[float]) -> tuple[float | None, float | None]:
    """Student's interval of a mean: right for few numbers, such as one a seed; nothing for n < 2."""
    return mean_interval(sum(numbers, 0.0), sum((number**2 for number in numbers), 0.0), len(numbers))


def bootstrap_interval(numbers: Sequence[float], seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """The percentile interval of a mean by a bootstrap: right for many numbers, such as one a prompt.

    It is wrong for a Frechet distance, which is biased.
    """
    values = torch.tensor(numbers, dtype=torch.float64)
    generator = keyed_generator(seed, "paired bootstrap", 0, 0)
    rows = torch.randint(len(values), (resamples, len(values)), generator=generator)
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = values[rows].mean(1).quantile(tails).tolist()
    return low, high
