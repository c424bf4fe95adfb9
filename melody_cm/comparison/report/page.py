"""The report of a comparison or an ablation: one HTML file with tables, charts, clips and how all was made.

It makes no request: style, script, pictures and sounds are inside. A comparison also has a blind listening test.
`page.html` is its template.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from melody_cm.comparison.ceilings import REAL
from melody_cm.comparison.report.charts import NUM_COLOURS, SHAPES, Chart, Point
from melody_cm.comparison.report.clips import clips_by_prompt
from melody_cm.comparison.report.findings import NOT_TOLD, cautions, corpus_name, count, findings, opening
from melody_cm.comparison.tables import VERDICTS, leading_columns, main_judge, markdown_table, sheets, tests_sheet
from melody_cm.data import SPLITS
from melody_cm.evaluation.results import Results, Row
from melody_cm.evaluation.tables import Sheet, csv_text
from melody_cm.storage import hash_data, write_text

FOLDER = Path(__file__).parent
ASIDE = 1.02  # Recipes stand side by side where they took equally many steps, or their intervals would be one.
LABELS = {"speed": "times real time (seconds of audio per second of waiting)", "steps": "sampling steps"}
PARETO = (
    "Lower and further right is better. Bars: 95 % interval of {}; small numbers: steps. Point at a mark, or reach it "
    "with Tab, for its numbers."
)
CELL = re.compile(r"(?P<value>[^\[\]()]+) (?P<interval>[\[(][^\[\]()]*[\])])(?P<mark> [†‡])?")
MEANINGS = {
    **dict.fromkeys(("fad_", "kad_"), "distance to real music"),
    **dict.fromkeys(("excess_", "text_correlation_", "prompt_auc_"), "prompt-following"),
    "times real time": "speed",
    "passes": "calls, counted / formula",
}


def write_results(results: Results, folder: Path) -> None:
    """Write `results.json`, `table.md`, `table.csv` and `report.html` into a folder."""
    results.write(folder / "results.json")
    write_text(folder / "table.md", markdown_table(results))
    write_text(folder / "table.csv", csv_text(results))
    write_report(results, folder)


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.html` beside the results; clips are named relative to the folder. Returns its path."""
    metadata = results.metadata
    prompts, left_out = clips_by_prompt(results, folder)
    ablated, leading = results.verb == "ablate", leading_columns(results)
    first, *others = (sheet for sheet in sheets(results) if sheet.title != VERDICTS)  # Those stand pair by pair.
    asked = {"comparison": comparison_key(results), "prompts": _pairs(prompts)}
    systems = dict.fromkeys(row.label for row in results.rows if row.num_steps is not None)  # Real music has no steps.
    labels = dict.fromkeys(row.label for row in results.rows) if ablated else systems
    html = (
        environment()
        .get_template("page.html")
        .render(
            css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
            js=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
            title=f"Ablation: {Path(metadata['folder']).name}" if ablated else f"{', '.join(systems)} side by side",
            opening=opening(results),
            cautions=cautions(results),
            findings=findings(results),
            sheets=[_leading_first(first, leading), *others],
            leading=len(leading),
            pairwise=tests_sheet(sorted(results.tests(), key=lambda one: one.verdict == NOT_TOLD)),
            metadata=metadata,
            ablated=ablated,
            judges=results.embeddings(),
            methods=_methods(results),
            labels=list(labels),
            charts=_charts_of_ablation(results) if ablated else _charts_of_comparison(results),
            prompts=prompts,
            left_out=left_out,
            pairs=Markup(json.dumps(asked).replace("<", "\\u003c")),
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
    made.globals |= {"shapes": SHAPES, "colours": NUM_COLOURS, "splits": SPLITS}
    made.filters |= {"halves": _halves, "meaning": _meaning, "count": count, "corpus": corpus_name}
    return made


def comparison_key(results: Results) -> str:
    """What votes on the same clips have in common."""
    metadata, titles = results.metadata, [row.title for row in results.rows]
    return hash_data([metadata.get("systems"), metadata.get("prompts"), metadata["seeds"], titles])


def _leading_first(sheet: Sheet, leading: Sequence[str]) -> Sheet:
    """The same table with the columns that a reader needs first in front."""
    order = [sheet.headings.index(heading) for heading in leading if heading in sheet.headings]
    order += [place for place in range(len(sheet.headings)) if place not in order]
    lines = [[line[place] for place in order] for line in sheet.lines]
    return replace(sheet, headings=[sheet.headings[place] for place in order], lines=lines)


def _meaning(heading: str) -> str:
    return next((meaning for start, meaning in MEANINGS.items() if heading.startswith(start)), "")


def _halves(cell: str) -> tuple[str, str]:
    """A cell's number with its mark, and what stands in brackets behind it."""
    found = CELL.fullmatch(cell)
    return (found["value"] + (found["mark"] or ""), found["interval"]) if found else (cell, "")


def _methods(results: Results) -> dict[str, list[str]]:
    """How measures were taken, each with the keys of those that were taken so."""
    methods: dict[str, list[str]] = {}
    for key, score in {key: score for row in results.rows for key, score in row.metrics.items()}.items():
        methods.setdefault(score.method, []).append(key)
    return {method: keys for method, keys in methods.items() if method}


def _charts_of_comparison(results: Results) -> list[Chart]:
    key = main_judge(results)
    captions = {"speed": PARETO.format(key), "steps": f"{key} over sampling steps."}
    real = next((row.metrics[key].best for row in results.rows if row.label == REAL and key in row.metrics), None)
    return [one for against, said in captions.items() for one in _chart(results.rows, key, against, said, real=real)]


def _charts_of_ablation(results: Results) -> list[Chart]:
    sampled = [row for row in results.rows if row.num_steps is not None]
    labels = list(dict.fromkeys(row.label for row in sampled))
    bars = "; bars: 95 % interval of the mean over seeds" if len(results.metadata["seeds"]) > 1 else ""
    keys = dict.fromkeys(key for row in sampled for key in row.metrics)
    return [one for key in keys for one in _chart(sampled, key, "steps", f"{key} over sampling steps{bars}.", labels)]


def _chart(
    rows: Sequence[Row], key: str, against: str, caption: str, beside: Sequence[str] = (), real: float | None = None
) -> list[Chart]:
    """A measure over speed or steps; nothing where no row has both."""
    points = [point for row in rows if (point := _point(row, key, against, beside)) is not None]
    return [Chart(f"{key} over {LABELS[against]}", LABELS[against], key, caption, points, real)] if points else []


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
    text = f"{row.title}: {metric} {y:.4g}{interval}{pace}"
    return Point(row.label, x * aside, y, score.low, score.high, text, str(row.num_steps) if against == "speed" else "")


def _pairs(prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the listening test draws from: clips by prompt, as ids of the players above."""
    told = ("id", "name", "system")
    clips = [(one["text"], [{key: clip[key] for key in told} for clip in one["clips"]]) for one in prompts]
    return [{"prompt": text, "clips": own} for text, own in clips if len(own) > 1]
