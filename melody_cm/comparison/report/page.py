"""The report of a comparison or an ablation: one HTML file with tables, charts, clips and how all was made.

It makes no request: style, script, pictures and sounds are inside. A comparison also has a blind listening test.
`page.html` is its template.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from melody_cm.comparison.report.charts import NUM_COLOURS, SHAPES, Chart, Point
from melody_cm.comparison.report.clips import clips_by_prompt
from melody_cm.comparison.tables import markdown_table, sheets
from melody_cm.evaluation.results import Results, Row
from melody_cm.evaluation.tables import csv_text
from melody_cm.storage import write_text

FOLDER = Path(__file__).parent
ASIDE = 1.02  # Recipes stand side by side where they took equally many steps, or their intervals would be one.
LABELS = {"speed": "times real time (seconds of audio per second of waiting)", "steps": "sampling steps"}
PARETO = (
    "Lower and further right is better. Bars: 95 % interval of {}, where it can be told. Point at a mark, or reach it "
    "with Tab, for its numbers."
)


def write_results(results: Results, folder: Path) -> None:
    """Write `results.json`, `table.md`, `table.csv` and `report.html` into a folder."""
    results.write(folder / "results.json")
    write_text(folder / "table.md", markdown_table(results))
    write_text(folder / "table.csv", csv_text(results))
    write_report(results, folder)


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.html` beside the results; clips are named relative to the folder. Returns its path."""
    metadata, labels = results.metadata, list(dict.fromkeys(row.label for row in results.rows))
    prompts, left_out = clips_by_prompt(results, folder)
    ablated = results.verb == "ablate"
    systems = dict.fromkeys(row.label for row in results.rows if row.num_steps is not None)  # Real music has no steps.
    html = (
        environment()
        .get_template("page.html")
        .render(
            css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
            js=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
            title=f"Ablation: {Path(metadata['folder']).name}" if ablated else f"{', '.join(systems)} side by side",
            sheets=sheets(results),
            facts=_facts(metadata),
            identities=_identities(results),
            differences=results.differences,
            labels=labels,
            charts=_charts_of_ablation(results) if ablated else _charts_of_comparison(results),
            prompts=prompts,
            left_out=left_out,
            seed=metadata["seeds"][0],
            pairs=Markup(json.dumps(_pairs(prompts)).replace("<", "\\u003c")),
        )
    )
    write_text(folder / "report.html", html)
    return folder / "report.html"


def environment() -> Environment:
    """What renders the templates of this folder; texts are escaped."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"shapes": SHAPES, "colours": NUM_COLOURS}
    return made


def _facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the results were made, for a table of two columns."""
    shown = {key: value for key, value in metadata.items() if key not in ("prompts", "embeddings")}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()]


def _identities(results: Results) -> list[tuple[str, str]]:
    """Every metric with the embedding that decides its numbers, else how it is measured."""
    scores = {key: score for row in results.rows for key, score in row.metrics.items()}
    return [(key, json.dumps(one.embedding) if one.embedding else one.method) for key, one in scores.items()]


def _charts_of_comparison(results: Results) -> list[Chart]:
    """The first distance over speed, and over steps."""
    key = f"fad_{results.metadata['embeddings'][0]['name']}"
    captions = {"speed": PARETO.format(key), "steps": f"{key} over sampling steps."}
    charts = [_chart(results.rows, key, against, caption) for against, caption in captions.items()]
    return [chart for chart in charts if chart is not None]


def _charts_of_ablation(results: Results) -> list[Chart]:
    """Every measure of samples over steps."""
    sampled = [row for row in results.rows if row.num_steps is not None]
    labels = list(dict.fromkeys(row.label for row in sampled))
    bars = "; bars: 95 % interval of the mean over seeds" if len(results.metadata["seeds"]) > 1 else ""
    keys = dict.fromkeys(key for row in sampled for key in row.metrics)
    charts = [_chart(sampled, key, "steps", f"{key} over sampling steps{bars}.", labels) for key in keys]
    return [chart for chart in charts if chart is not None]


def _chart(rows: Sequence[Row], key: str, against: str, caption: str, beside: Sequence[str] = ()) -> Chart | None:
    points = [point for row in rows if (point := _point(row, key, against, beside)) is not None]
    title = f"{key} over {LABELS[against]}"
    return Chart(title, LABELS[against], key, caption, points) if points else None


def _point(row: Row, metric: str, against: str, beside: Sequence[str]) -> Point | None:
    """A row's place; rows of the labels in `beside` are moved a little apart."""
    score, speed = row.metrics.get(metric), (row.facts.get("speed") or {}).get("times_real_time")
    x = speed if against == "speed" else row.num_steps
    if score is None or score.value is None or not x:
        return None
    y = score.best if score.low is not None else score.value
    interval = ", no interval" if score.low is None else f" {score.interval()}"
    pace = "" if speed is None else f", {speed:.3g} times real time"
    aside = ASIDE ** (beside.index(row.label) - (len(beside) - 1) / 2) if beside else 1.0
    return Point(row.label, x * aside, y, score.low, score.high, f"{row.title}: {metric} {y:.4g}{interval}{pace}")


def _pairs(prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the listening test draws from: clips by prompt, as ids of the players above."""
    told = ("id", "name", "system")
    clips = [(one["text"], [{key: clip[key] for key in told} for clip in one["clips"]]) for one in prompts]
    return [{"prompt": text, "clips": own} for text, own in clips if len(own) > 1]
