"""An ablation as a table, in Markdown, in the terminal and for a spreadsheet."""

from collections.abc import Iterator
from typing import Any

from melody_cm.benchmark.ablation import LARGER_IS_BETTER, Ablation, Entry
from melody_cm.benchmark.sheet import Sheet, csv_text
from melody_cm.interfaces import EmbeddingIdentity

WHAT = {
    "velocity_mse": "squared error of the predicted velocity, mean over elements and 16 noise levels",
    "si_snri": "dB that one call gains over the noisy latent, mean over clips and 16 noise levels",
    "si_snri_median": "the median of the same",
    "student_error": "student's one step against the teacher's 50 guided steps from the same noise, relative RMS",
    "teacher_error": "the guided teacher's own one step against the same",
    "sampling_error": "result of few steps against 100 steps of the same sampler from the same noise, relative RMS",
}


def sheet(ablation: Ablation) -> Sheet:
    """A line for each recipe and number of steps, a column for each metric."""
    headings, *lines = _lines(ablation)
    return Sheet(headings, lines, notes(ablation))


def csv_table(ablation: Ablation) -> str:
    """A row for each recipe, number of steps and metric; one column a seed."""
    return csv_text([_flat(entry, ablation) for entry in ablation.entries()])


def _flat(entry: Entry, ablation: Ablation) -> dict[str, Any]:
    fixed = ("recipe", "num_steps", "metric", "mean", "std", "difference", "low", "high", "verdict")
    own = {
        cell.seed: cell.metrics
        for cell in ablation.cells
        if (cell.recipe, cell.num_steps) == (entry.recipe, entry.num_steps)
    }
    values = {f"seed_{seed}": own.get(seed, {}).get(entry.metric) for seed in ablation.seeds}
    return {**{name: getattr(entry, name) for name in fixed}, **values}


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
