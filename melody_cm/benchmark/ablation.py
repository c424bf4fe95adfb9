"""An ablation: recipes that differ in one thing, each trained with several seeds, in one table with mean and spread."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table

from melody_cm.evaluation.uncertainty import mean_interval
from melody_cm.interfaces import EmbeddingIdentity

SCHEMA_VERSION = 1
LARGER_IS_BETTER = ("si_snri", "si_snri_median")
WHAT = {
    "velocity_mse": "squared error of the predicted velocity, mean over elements and 16 noise levels",
    "si_snri": "dB that one call gains over the noisy latent, mean over clips and 16 noise levels",
    "si_snri_median": "the median of the same",
    "student_error": "student's one step against the teacher's 50 guided steps from the same noise, relative RMS",
    "teacher_error": "the guided teacher's own one step against the same",
    "sampling_error": "result of few steps against 100 steps of the same sampler from the same noise, relative RMS",
}


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


def csv_table(ablation: Ablation) -> str:
    """The rows for a spreadsheet; one column a seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fixed = ("recipe", "num_steps", "metric", "mean", "std", "difference", "low", "high", "verdict")
    writer.writerow([*fixed, *[f"seed_{seed}" for seed in ablation.seeds]])
    for entry in ablation.entries():
        writer.writerow(
            [*["" if getattr(entry, name) is None else getattr(entry, name) for name in fixed], *entry.values]
        )
    return text.getvalue()


def markdown_table(ablation: Ablation) -> str:
    """The rows as a Markdown table with notes."""
    header, *body = _lines(ablation)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n" + "\n".join(f"- {note}" for note in notes(ablation)) + "\n"


def rich_table(ablation: Ablation) -> Table:
    """The same table for a terminal."""
    header, *body = _lines(ablation)
    table = Table(caption="\n".join(notes(ablation)), caption_justify="left")
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index == 0 else "right")
    for line in body:
        table.add_row(*line)
    return table


def notes(ablation: Ablation) -> list[str]:
    """What a reader must know before quoting a number."""
    seeds = ", ".join(str(seed) for seed in ablation.seeds)
    lines = [
        f"mean ± standard deviation over the seeds {seeds}; in brackets the verdict against {ablation.baseline}, from "
        "the 95 % interval of the differences seed by seed: few seeds tell only large differences apart."
    ]
    used = dict.fromkeys(entry.metric for entry in ablation.entries())
    lines += [f"{metric}: {WHAT[metric]}." for metric in used if metric in WHAT]
    embedding = ablation.metadata.get("embedding")
    if embedding:
        # Not as many as were asked for: there may be fewer, and they come in whole batches.
        name, counts = embedding["name"], [cell.clips for cell in ablation.cells if cell.clips is not None]
        clips = min(counts, default=ablation.metadata["clips"])
        lines.append(
            f"fad_{name}, kad_{name}: plain Frechet and 100 x kernel distance of {clips} samples to the {clips} test "
            f"clips they were made from, in {EmbeddingIdentity(**embedding)}."
        )
        if not embedding["trained"]:
            lines.append("These features are hand-made: the distances are not FAD and no published number compares.")
        if clips < 2 * embedding["width"]:
            lines.append(f"{clips} clips are fewer than {2 * embedding['width']}: the Frechet distance is mostly bias.")
    return lines


def _lines(ablation: Ablation) -> Iterator[list[str]]:
    """The header, then a line for each recipe and number of steps."""
    entries = ablation.entries()
    metrics = list(dict.fromkeys(entry.metric for entry in entries))
    arrows = {metric: "↑" if metric in LARGER_IS_BETTER else "↓" for metric in metrics}
    yield ["recipe", "steps", *[f"{metric} {arrows[metric]}" for metric in metrics]]
    rows: dict[tuple[str, int | None], dict[str, Entry]] = {}
    for entry in entries:
        rows.setdefault((entry.recipe, entry.num_steps), {})[entry.metric] = entry
    for (recipe, num_steps), found in rows.items():
        cells = [_cell(found[metric]) if metric in found else "" for metric in metrics]
        yield [recipe, "" if num_steps is None else str(num_steps), *cells]


def _cell(entry: Entry) -> str:
    spread = "" if entry.std is None else f" ± {entry.std:.2g}"
    return f"{entry.mean:.4g}{spread}" + (f" ({entry.verdict})" if entry.verdict else "")
