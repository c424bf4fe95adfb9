"""The page of an ablation: table, verdicts against the baseline, curves over steps, and how all was made."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from melody_cm.benchmark.ablation import Ablation, Entry
from melody_cm.benchmark.ablation_table import sheet
from melody_cm.benchmark.report.charts import Point, chart
from melody_cm.benchmark.report.page import Figure, Page, facts
from melody_cm.evaluation.uncertainty import mean_interval

ASIDE = 1.02  # Recipes stand side by side where they took equally many steps, or their intervals would be one.


def write_ablation_report(ablation: Ablation, folder: Path) -> Path:
    """Write `report.html` beside the results of an ablation; its path."""
    metadata, entries = ablation.as_dict()["metadata"], ablation.entries()
    page = Page(
        title=f"Ablation: {Path(metadata['folder']).name}",
        sheets=[sheet(ablation)],
        facts=facts(metadata),
        identities=[(metric, json.dumps(metadata["embedding"])) for metric in _distances(entries)],
        comparisons=list(_comparisons(entries, ablation.baseline)),
        series=list(dict.fromkeys(entry.recipe for entry in entries)),
        figures=list(_figures(entries, len(ablation.seeds))),
    )
    return page.write(folder)


def _distances(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.metric for entry in entries if entry.metric.startswith(("fad_", "kad_"))))


def _comparisons(entries: Sequence[Entry], baseline: str) -> Iterator[dict[str, object]]:
    for entry in entries:
        if entry.verdict is not None:
            sides = {"first": entry.title, "second": baseline, "metric": entry.metric}
            yield {**sides, **{key: getattr(entry, key) for key in ("difference", "low", "high", "verdict")}}


def _figures(entries: Sequence[Entry], num_seeds: int) -> Iterator[Figure]:
    """A chart for every metric of samples."""
    sampled = [entry for entry in entries if entry.num_steps is not None]
    recipes = list(dict.fromkeys(entry.recipe for entry in sampled))
    for metric in dict.fromkeys(entry.metric for entry in sampled):
        points = [_point(entry, recipes) for entry in sampled if entry.metric == metric]
        drawn = chart(points, f"{metric} over sampling steps", "sampling steps", metric)
        bars = f"; bars: 95 % interval of the mean over {num_seeds} seeds" if num_seeds > 1 else ""
        yield Figure(Markup(drawn), f"{metric} over sampling steps{bars}.")


def _point(entry: Entry, recipes: Sequence[str]) -> Point:
    low, high = mean_interval(sum(entry.values), sum(value**2 for value in entry.values), len(entry.values))
    interval = ", one seed" if low is None else f" [{low:.4g}, {high:.4g}] over {len(entry.values)} seeds"
    aside = ASIDE ** (recipes.index(entry.recipe) - (len(recipes) - 1) / 2)
    text = f"{entry.title}: {entry.metric} {entry.mean:.4g}{interval}"
    return Point(entry.recipe, (entry.num_steps or 0) * aside, entry.mean, low, high, text)
