"""The report of a comparison or an ablation: one HTML file with tables, charts, clips and how all was made.

It makes no request: style, script, pictures and sounds are inside. A comparison also has a blind listening test.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melody_cm.benchmark.report.charts import Point, chart, legend_mark
from melody_cm.benchmark.report.sounds import sound_uri, spectrogram_uri
from melody_cm.benchmark.tables import markdown_table, sheets
from melody_cm.evaluation.results import Results, Row
from melody_cm.evaluation.tables import csv_text
from melody_cm.storage import write_text

SIZE_LIMIT = 24 * 2**20  # Bytes of sound and pictures, so that the page can be sent by mail.
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
    html = _template("html").render(
        css=Markup(_source("css")),
        js=Markup(_source("js")),
        title=f"Ablation: {Path(metadata['folder']).name}" if ablated else f"{', '.join(labels)} side by side",
        sheets=sheets(results),
        facts=_facts(metadata),
        identities=_identities(results),
        differences=results.differences,
        legend=[(label, Markup(legend_mark(index))) for index, label in enumerate(labels)],
        figures=_figures(results),
        prompts=prompts,
        left_out=left_out,
        seed=metadata["seeds"][0],
        pairs=Markup(json.dumps(pairs(prompts)).replace("<", "\\u003c")),
    )
    write_text(folder / "report.html", html)
    return folder / "report.html"


def _source(kind: str) -> str:
    return Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8")


def _template(kind: str) -> Any:
    loader = PackageLoader("melody_cm.benchmark.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"page.{kind}")


def _facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the results were made, for a table of two columns."""
    shown = {key: value for key, value in metadata.items() if key not in ("prompts", "embeddings")}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()]


def _identities(results: Results) -> list[tuple[str, str]]:
    """Every metric with the embedding that decides its numbers, else how it is measured."""
    scores = {key: score for row in results.rows for key, score in row.metrics.items()}
    return [(key, json.dumps(one.embedding) if one.embedding else one.method) for key, one in scores.items()]


def _figures(results: Results) -> list[dict[str, Any]]:
    """Charts with what stands below them: of a comparison by speed and steps, of an ablation by steps alone."""
    sampled = [row for row in results.rows if row.num_steps is not None]
    if results.verb == "ablate":
        keys = dict.fromkeys(key for row in sampled for key in row.metrics)
        bars = "; bars: 95 % interval of the mean over seeds" if len(results.metadata["seeds"]) > 1 else ""
        wanted = [(key, "steps", f"{key} over sampling steps{bars}.") for key in keys]
    else:
        key = f"fad_{results.metadata['embeddings'][0]['name']}"
        wanted = [(key, "speed", PARETO.format(key)), (key, "steps", f"{key} over sampling steps.")]
    labels = list(dict.fromkeys(row.label for row in sampled)) if results.verb == "ablate" else []
    figures = []
    for key, against, caption in wanted:
        points = [point for row in sampled if (point := _point(row, key, against, labels)) is not None]
        if points:
            drawn = chart(points, f"{key} over {LABELS[against]}", LABELS[against], key)
            figures.append({"chart": Markup(drawn), "caption": caption})
    return figures


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


def clips_by_prompt(results: Results, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Every prompt with the clip of every row from the first seed; and how many prompts found no room."""
    prompts, seed = results.metadata.get("prompts", []), results.metadata["seeds"][0]
    shown: list[dict[str, Any]] = []
    size = 0
    for index, prompt in enumerate(prompts):
        clips = [clip for row in results.rows if (clip := _clip(row, index, seed, folder)) is not None]
        size += sum(len(clip["sound"]) + len(clip["picture"]) for clip in clips)
        if size > SIZE_LIMIT:
            return shown, len(prompts) - index
        shown.append({"text": prompt, "clips": clips})
    return shown, 0


def _clip(row: Row, prompt: int, seed: int, folder: Path) -> dict[str, Any] | None:
    for clip in row.facts["clips"]:
        if (clip["prompt"], clip["seed"]) == (prompt, seed):
            return {
                "id": f"clip-{prompt}-{row.label}-{row.num_steps}",
                "name": row.title,
                "system": row.label,
                "sound": sound_uri(folder / clip["file"]),
                "picture": spectrogram_uri(folder / clip["file"]),
            }
    return None


def pairs(prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the listening test draws from: clips by prompt, as ids of the players above."""
    return [
        {
            "prompt": prompt["text"],
            "clips": [{key: clip[key] for key in ("id", "name", "system")} for clip in prompt["clips"]],
        }
        for prompt in prompts
        if len(prompt["clips"]) > 1
    ]
