"""How sure a number is: 95 % intervals of means over groups, the grouped jackknife, and Holm's correction."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from scipy import stats
from torch import Tensor

LEVEL = 0.95  # Of all intervals.
MIN_GROUPS = 8  # Prompts or pieces; fewer tell nothing of how unlike others may be.


class LeftOut(NamedTuple):
    """An estimate without each group in turn: values (g,), and how many clips each group holds: sizes (g,)."""

    values: Float64[Tensor, " g"]
    sizes: Int64[Tensor, " g"]


class Jackknifed(NamedTuple):
    """An estimate without its bias of order 1/n, the confidence interval around it, and its deviations: for each side
    what every group adds to the standard error. Their squares sum to the variance, and those of two estimates from the
    same groups may be subtracted group by group."""

    corrected: float
    low: float
    high: float
    deviations: tuple[Float64[Tensor, " _"], ...]


class Part(NamedTuple):
    """An independent part of the variance of an estimate, and its degrees of freedom."""

    variance: float
    freedom: int


class Tested(NamedTuple):
    """A confidence interval, and the two-sided p value of 0 being the truth."""

    low: float
    high: float
    p: float


def student(value: float, parts: Sequence[Part]) -> Tested:
    """Student's interval and test of an estimate, with Satterthwaite's degrees of freedom of all parts together."""
    variance = sum(part.variance for part in parts)
    if variance == 0:
        return Tested(value, value, float(value == 0))
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Tested(value - half, value + half, float(2 * stats.t.sf(abs(value) / error, freedom)))


def jackknife(value: float, sides: Sequence[LeftOut]) -> Jackknifed | None:
    """The grouped jackknife for groups of unequal size (Busing, Meijer and van der Leeden, 1999).

    Independent samples are left out one after the other: their biases and their variances add up.

    Args:
        value: the estimate from everything.
        sides: one for each independent sample, of at least two groups; without any, nothing can be told: None.
    """
    if not sides:
        return None
    corrected, deviations = value, []
    for values, sizes in sides:
        ratio = sizes.sum() / sizes.double()
        side = (len(sizes) * value - ((1 - 1 / ratio) * values).sum()).item()
        pseudo = ratio * value - (ratio - 1) * values
        deviations.append((pseudo - side) / ((ratio - 1) * len(sizes)).sqrt())
        corrected += side - value
    tested = student(corrected, [Part(side.square().sum().item(), len(side) - 1) for side in deviations])
    return Jackknifed(corrected, tested.low, tested.high, tuple(deviations))


def mean_parts(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, members: Sequence[Hashable] | None = None
) -> list[Part]:
    """The variance of a mean of numbers that come in groups, such as the clips of prompts; nothing for fewer than two
    groups.

    Groups alone give the variance that is robust to clusters. With members, such as seeds, it is that of the two-way
    layout with random groups and members: what members have in common across groups is added where it shows.

    Args:
        groups: what each number belongs to; None: each stands for itself.
        members: which member of its group each number is, the same names in all groups; each once a group.
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    first, num_groups = codes_of(range(len(values)) if groups is None else groups)
    if num_groups < 2:
        return []
    centred = numbers - numbers.mean()
    between = _sums(centred, first, num_groups).square().sum() / len(numbers) ** 2
    parts = [Part((between * num_groups / (num_groups - 1)).item(), num_groups - 1)]
    if members is None:
        return parts
    second, num_members = codes_of(members)
    if num_members > 1:
        counts = _sums(torch.ones_like(numbers), first, num_groups)
        rest = numbers - (_sums(numbers, first, num_groups) / counts)[first]
        # Without a common part of the members, the squares of their sums would be sums of squares.
        common = _sums(rest, second, num_members).square().sum() - rest.square().sum()
        shared = common / ((num_groups - 1) * (num_members - 1) * len(numbers))
        parts.append(Part(max(shared.item(), 0.0), num_members - 1))
    return parts


def codes_of(names: Iterable[Hashable]) -> tuple[Int64[Tensor, " n"], int]:
    """A number from 0 on for each name, equal ones for equal names, and how many there are."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(name, len(known)) for name in names]
    return torch.tensor(codes, dtype=torch.int64), len(known)


def _sums(numbers: Float64[Tensor, " n"], codes: Int64[Tensor, " n"], count: int) -> Float64[Tensor, " g"]:
    return torch.zeros(count, dtype=torch.float64).index_add_(0, codes, numbers)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, members: Sequence[Hashable] | None = None
) -> tuple[float | None, float | None]:
    """Student's interval of a mean, see `mean_parts`; nothing for fewer than two groups."""
    parts = mean_parts(values, groups, members)
    return student(sum(values) / len(values), parts)[:2] if parts else (None, None)


def effective_count(choices: Sequence[float], groups: Sequence[Hashable]) -> float:
    """How many independent numbers from 0 to 1, of this mean, would tell as much: fewer where those of a group agree
    more than others (Korn and Graubard, 1998). Where all agree, one a group."""
    count, share, num_groups = len(choices), sum(choices) / len(choices), len(set(groups))
    if share in (0.0, 1.0) or num_groups == count:
        return float(num_groups)
    variance = sum(part.variance for part in mean_parts(choices, groups))
    return float(count) if variance == 0 else min(share * (1 - share) / variance, float(count))


def interval_of_sums(total: float, squares: float, n: int) -> tuple[float | None, float | None]:
    """Student's interval of a mean, from the sum and the sum of squares of n numbers; nothing for n < 2."""
    if n < 2:
        return None, None
    variance = max(squares - total**2 / n, 0.0) / (n - 1)
    return student(total / n, [Part(variance / n, n - 1)])[:2]


def two_way(numbers: Mapping[str, float]) -> tuple[float, list[Part]]:
    """The mean of numbers named GROUP or GROUP/MEMBER, and the parts of its variance."""
    names = [name.partition("/") for name in numbers]
    members = [member for _, _, member in names] if all(slash for _, slash, _ in names) else None
    values = list(numbers.values())
    return sum(values) / len(values), mean_parts(values, [group for group, _, _ in names], members)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of a family of tests, adjusted so that those at most 0.05 hold no false alarm in 95 % of families
    (Holm, 1979)."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = highest
    return adjusted
