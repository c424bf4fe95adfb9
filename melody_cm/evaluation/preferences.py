"""What listeners prefer: shares of votes with intervals, and the Bradley-Terry order.

Votes of one listener resemble each other, and so do votes on one prompt. So intervals and tests count groups:
listeners where there are at least 8, else prompts (`groups_of`). They come from the likelihood; where votes of a
group resemble each other they are widened by what that adds to the variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy import linalg, stats
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from melody_cm.evaluation.uncertainty import LEVEL, MIN_GROUPS, Part, effective_count, holm, student

NEWTON_STEPS = 100


class Vote(NamedTuple):
    """One choice between two rows: 1 where the first was preferred, 0 where the second was, 0.5 for neither."""

    first: str
    second: str
    choice: float
    listener: str
    prompt: str


@dataclass(frozen=True)
class Preference:
    """How often one row was preferred to another.

    Attributes:
        wins, losses, neither: votes for the first, for the second, and for neither, which counts half for each.
        groups: listeners or prompts that they come from.
        low, high: 95 % interval of the share; None for a single group.
        p: of the share 0.5 being the truth; p_holm: corrected for all pairs; None for fewer than 8 groups.
    """

    first: str
    second: str
    wins: int
    losses: int
    neither: int
    groups: int
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None

    @property
    def share(self) -> float:
        """Of the first row."""
        return (self.wins + self.neither / 2) / (self.wins + self.losses + self.neither)

    @property
    def verdict(self) -> str:
        """Of the first row."""
        if self.p_holm is None:
            return "too few to tell"
        if self.p_holm > 1 - LEVEL:
            return "not distinguishable"
        return "preferred" if self.share > 0.5 else "less liked"


@dataclass(frozen=True)
class Strength:
    """Of a row in the Bradley-Terry model, around a mean of 0: a row of strength s is preferred to one of strength t in
    1 / (1 + exp(t - s)) of votes.

    Attributes:
        low, high: 95 % interval; None for a single group.
        votes: that the row took part in.
    """

    row: str
    value: float
    low: float | None
    high: float | None
    votes: int


def groups_of(votes: Sequence[Vote]) -> tuple[str, list[str]]:
    """What intervals count, "listeners" or "prompts", and the group of every vote."""
    listeners = [vote.listener for vote in votes]
    if len(set(listeners)) >= MIN_GROUPS:
        return "listeners", listeners
    return "prompts", [vote.prompt for vote in votes]


def preferences(votes: Sequence[Vote]) -> list[Preference]:
    """Every pair of rows that met, with Holm's correction over all pairs that have enough groups."""
    groups = groups_of(votes)[1]
    found = []
    for first, second in combinations(dict.fromkeys(row for vote in votes for row in vote[:2]), 2):
        met = [
            (vote.choice if vote.first == first else 1 - vote.choice, group)
            for vote, group in zip(votes, groups, strict=True)
            if {vote.first, vote.second} == {first, second}
        ]
        if met:
            found.append(_preference(first, second, *zip(*met, strict=True)))
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=next(corrected)) for one in found]


def _preference(first: str, second: str, choices: Sequence[float], groups: Sequence[str]) -> Preference:
    counts = choices.count(1.0), choices.count(0.0), choices.count(0.5)
    told = Preference(first, second, *counts, len(set(groups)), None, None, None)
    if told.groups < 2:
        return told
    effective = effective_count(choices, groups)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, told.groups - 1))
    low, high = wilson(told.share, effective, quantile)
    # The interval holds 0.5 exactly where this score test does not decide.
    distance = abs(told.share - 0.5) / np.sqrt(0.25 / effective)
    p = float(2 * stats.t.sf(distance, told.groups - 1)) if told.groups >= MIN_GROUPS else None
    return replace(told, low=low, high=high, p=p)


def wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share (1927); it never leaves 0 to 1, and has a width where all agree."""
    shrink = 1 + quantile**2 / count
    middle = (share + quantile**2 / (2 * count)) / shrink
    half = quantile / shrink * np.sqrt(share * (1 - share) / count + quantile**2 / (4 * count**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)


def bradley_terry(votes: Sequence[Vote]) -> list[Strength]:
    """All rows, the strongest first, by maximum likelihood (Bradley and Terry, 1952).

    Every pair that met counts as if it had met once more without a winner, so that a row which always won has a finite
    strength. The variance is the larger of that of the likelihood and that between groups (the sandwich estimate).

    Raises:
        ValueError: there are rows that never met, not even through others.
    """
    rows = list(dict.fromkeys(row for vote in votes for row in vote[:2]))
    pairs = np.array([[rows.index(vote.first), rows.index(vote.second)] for vote in votes])
    met = np.zeros((len(rows), len(rows)), dtype=bool)
    met[pairs.min(1), pairs.max(1)] = True
    parts, part = connected_components(met, directed=False)
    if parts > 1:
        apart = rows[int(np.argmax(part != part[0]))]
        raise ValueError(f"{rows[0]} and {apart} never met, not even through others: there is no order of all rows")
    unit = np.eye(len(rows))
    asked = unit[pairs[:, 0]] - unit[pairs[:, 1]]
    drawn = np.array([unit[first] - unit[second] for first, second in np.argwhere(met)])
    choices = np.array([vote.choice for vote in votes])
    strengths, inverse = _most_likely(np.vstack([asked, drawn]), np.concatenate([choices, np.full(len(drawn), 0.5)]))
    groups = groups_of(votes)[1]
    scores = asked * (choices - expit(asked @ strengths))[:, None]
    variances = np.maximum(np.diag(inverse), _between(groups, scores, inverse))
    counts = np.abs(asked).sum(0).astype(int)
    found = []
    for row, value, variance, count in zip(rows, strengths.tolist(), variances.tolist(), counts.tolist(), strict=True):
        freedom = len(set(groups)) - 1
        low, high = student(value, [Part(variance, freedom)])[:2] if freedom else (None, None)
        found.append(Strength(row, value, low, high, count))
    return sorted(found, key=lambda one: -one.value)


def _most_likely(
    design: Float64[ndarray, "votes rows"], choices: Float64[ndarray, " votes"]
) -> tuple[Float64[ndarray, " rows"], Float64[ndarray, "rows rows"]]:
    """Strengths that sum to 0, and the inverse of their information, by Newton's method."""
    strengths = np.zeros(design.shape[1])
    # Votes say nothing of what all strengths have in common: that direction is left out, not rounded away.
    differences = linalg.helmert(len(strengths))
    for _ in range(NEWTON_STEPS):
        expected = expit(design @ strengths)
        information = design.T @ (design * (expected * (1 - expected))[:, None])
        inverse = differences.T @ np.linalg.inv(differences @ information @ differences.T) @ differences
        step = inverse @ (design.T @ (choices - expected))
        strengths = strengths + step / max(1.0, np.abs(step).max())  # Far from the maximum a whole step leads too far.
        if np.abs(step).max() < 1e-10:
            break
    return strengths, inverse


def _between(
    groups: Sequence[str], scores: Float64[ndarray, "votes rows"], inverse: Float64[ndarray, "rows rows"]
) -> Float64[ndarray, " rows"]:
    """The variance of strengths as groups differ in the derivatives of their likelihood (Liang and Zeger, 1986)."""
    names = list(dict.fromkeys(groups))
    sums = np.stack([scores[[group == name for group in groups]].sum(0) for name in names])
    scaled = sums @ inverse * np.sqrt(len(names) / max(len(names) - 1, 1))
    return np.square(scaled).sum(0)
