"""The page of a comparison: table, charts, every clip, a blind listening test and all commands."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from melody_cm.benchmark.report.charts import Point, chart
from melody_cm.benchmark.report.page import Figure, Page, facts
from melody_cm.benchmark.report.sounds import sound_uri, spectrogram_uri
from melody_cm.benchmark.row import row_title
from melody_cm.benchmark.table import sheets
from melody_cm.evaluation import Score

SIZE_LIMIT = 24 * 2**20  # Bytes of sound and pictures, so that the page can be sent by mail.
PARETO = (
    "Lower and further right is better. Bars: 95 % interval of {}, where it can be told. Point at a mark, or reach it "
    "with Tab, for its numbers."
)


def write_report(results: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` beside the results and clips of a comparison.

    Args:
        results: the content of results.json.
        folder: where it lies; clips are named relative to it.

    Returns:
        the path of the page.
    """
    metadata = results["metadata"]
    prompts, left_out = clips_by_prompt(results, folder)
    systems = list(dict.fromkeys(row["system"] for row in results["rows"]))
    page = Page(
        title=f"{', '.join(systems)} side by side",
        sheets=sheets(results),
        facts=facts(metadata),
        identities=identities(results),
        comparisons=results.get("comparisons", []),
        series=systems,
        figures=_figures(results, f"fad_{metadata['embeddings'][0]['name']}"),
        prompts=prompts,
        left_out=left_out,
        seed=metadata["seeds"][0],
        pairs=Markup(json.dumps(pairs(prompts)).replace("<", "\\u003c")),
    )
    return page.write(folder)


def _figures(results: Mapping[str, Any], distance: str) -> list[Figure]:
    captions = {"speed": PARETO.format(distance), "steps": f"{distance} over sampling steps."}
    charts = {against: _chart(results, distance, against) for against in captions}
    return [Figure(drawn, captions[against]) for against, drawn in charts.items() if drawn is not None]


def _chart(results: Mapping[str, Any], metric: str, against: str) -> Markup | None:
    points = [point for row in results["rows"] if (point := _point(row, metric, against)) is not None]
    if not points:
        return None
    label = "times real time (seconds of audio per second of waiting)" if against == "speed" else "sampling steps"
    return Markup(chart(points, f"{metric} over {label}", label, metric))


def _point(row: Mapping[str, Any], metric: str, against: str) -> Point | None:
    score = Score.from_dict(row["metrics"][metric]) if metric in row["metrics"] else None
    speed = (row["speed"] or {}).get("times_real_time")
    x = speed if against == "speed" else row["num_steps"]
    if score is None or score.value is None or not x:
        return None
    told = score.corrected is not None and score.low is not None
    y = score.corrected if told else score.value
    interval = f" [{score.low:.4g}, {score.high:.4g}]" if score.low is not None else ", no interval"
    pace = "" if speed is None else f", {speed:.3g} times real time"
    text = f"{row_title(row)}: {metric} {y:.4g}{interval}{pace}"
    return Point(row["system"], float(x), y, score.low, score.high, text)


def clips_by_prompt(results: Mapping[str, Any], folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Every prompt with the clip of every row from the first seed; and how many prompts found no room."""
    seed = results["metadata"]["seeds"][0]
    shown: list[dict[str, Any]] = []
    size = 0
    for index, prompt in enumerate(results["metadata"]["prompts"]):
        clips = [_clip(row, index, seed, folder) for row in results["rows"]]
        present = [clip for clip in clips if clip is not None]
        size += sum(len(clip["sound"]) + len(clip["picture"]) for clip in present)
        if size > SIZE_LIMIT:
            return shown, len(results["metadata"]["prompts"]) - index
        shown.append({"index": index, "text": prompt, "clips": present})
    return shown, 0


def _clip(row: Mapping[str, Any], prompt: int, seed: int, folder: Path) -> dict[str, Any] | None:
    for clip in row["clips"]:
        if (clip["prompt"], clip["seed"]) == (prompt, seed):
            return {
                "id": f"clip-{prompt}-{row['system']}-{row['num_steps']}",
                "name": row_title(row),
                "system": row["system"],
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


def identities(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every metric with the embedding that decides its numbers, else how it is measured."""
    found: dict[str, str] = {}
    for row in results["rows"]:
        for key, score in row["metrics"].items():
            found[key] = json.dumps(score["embedding"]) if score.get("embedding") else score["method"]
    return list(found.items())
