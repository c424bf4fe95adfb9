"""An ablation: recipes that differ in one thing, each trained with several seeds, in one table with mean and spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from melody_cm.evaluation.uncertainty import mean_interval

SCHEMA_VERSION = 1
LARGER_IS_BETTER = ("si_snri", "si_snri_median")


@dataclass
class Cell:
    """What one recipe with one seed gave.

    Attributes:
        recipe: its name; seed: of training and sampling.
        num_steps: of sampling; None for measures that sample nothing.
        metrics: by name.
        clips: that were sampled and judged; None where none were.
    """

    recipe: str
    seed: int
    num_steps: int | None
    metrics: dict[str, float]
    clips: int | None = None


@dataclass
class Entry:
    """One metric of one recipe over seeds.

    Attributes:
        values: one a seed, in the order of the seeds; mean and std (of n - 1; None for one seed) of them.
        difference, low, high: mean over seeds of this minus the baseline, pairwise, with its 95 % interval; None for
            the baseline itself, and without two seeds.
        verdict: "better", "worse" or "not distinguishable" from the baseline.
    """

    recipe: str
    num_steps: int | None
    metric: str
    values: list[float]
    mean: float
    std: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str | None = None

    @property
    def title(self) -> str:
        """How people call the row."""
        return self.recipe if self.num_steps is None else f"{self.recipe}, {self.num_steps} steps"


@dataclass
class Ablation:
    """The results of an ablation.

    Args:
        baseline: the recipe that the others are compared with.
        seeds: in order.
        cells: all of them, in any order.
        metadata: what was run, on what, where.
    """

    baseline: str
    seeds: Sequence[int]
    cells: Sequence[Cell]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """A row for each recipe, number of steps and metric; recipes in the order of their cells."""
        table: dict[tuple[str, int | None, str], dict[int, float]] = {}
        for cell in self.cells:
            for metric, value in cell.metrics.items():
                table.setdefault((cell.recipe, cell.num_steps, metric), {})[cell.seed] = value
        return [self._entry(key, by_seed, table) for key, by_seed in table.items()]

    def _entry(self, key: tuple[str, int | None, str], by_seed: dict[int, float], table: Mapping) -> Entry:
        recipe, num_steps, metric = key
        values = [by_seed[seed] for seed in self.seeds if seed in by_seed]
        spread = torch.tensor(values, dtype=torch.float64).std().item() if len(values) > 1 else None
        entry = Entry(recipe, num_steps, metric, values, sum(values) / len(values), spread)
        against = table.get((self.baseline, num_steps, metric), {})
        pairs = [by_seed[seed] - against[seed] for seed in self.seeds if seed in by_seed and seed in against]
        if recipe != self.baseline and len(pairs) > 1:
            entry.difference = sum(pairs) / len(pairs)
            entry.low, entry.high = mean_interval(sum(pairs), sum(value**2 for value in pairs), len(pairs))
            entry.verdict = verdict(entry.low, entry.high, metric in LARGER_IS_BETTER)
        return entry

    def as_dict(self) -> dict[str, Any]:
        """The content of results.json."""
        metadata = {**self.metadata, "baseline": self.baseline, "seeds": list(self.seeds)}
        return {
            "schema_version": SCHEMA_VERSION,
            "metadata": metadata,
            "rows": [vars(entry) for entry in self.entries()],
        }


def verdict(low: float | None, high: float | None, larger_is_better: bool) -> str:
    """What an interval of a difference to the baseline says."""
    if low is None or high is None or low <= 0 <= high:
        return "not distinguishable"
    return "better" if (low > 0) == larger_is_better else "worse"
