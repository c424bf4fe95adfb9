"""Results as a table, in Markdown and in the terminal; both from the rows of `results.json`."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from melody_cm.benchmark.passes import passes_cells, passes_note
from melody_cm.evaluation import Score, refuse_unlike
from melody_cm.interfaces import EmbeddingIdentity


def markdown_table(results: Mapping[str, Any]) -> str:
    """A Markdown table with footnotes that say how far the numbers can be trusted."""
    header = headings(results)
    whole = [header, ["---", *["---:"] * (len(header) - 1)], *lines(results)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in whole)
    notes = "\n".join(f"- {note}" for note in footnotes(results))
    return f"{table}\n\n{notes}\n"


def rich_table(results: Mapping[str, Any]) -> Table:
    """The same table for a terminal."""
    table = Table(caption="\n".join(footnotes(results)), caption_justify="left")
    for index, title in enumerate(headings(results)):
        table.add_column(title, justify="left" if index == 0 else "right")
    for line in lines(results):
        table.add_row(*line)
    return table


def csv_table(results: Mapping[str, Any]) -> str:
    """The same rows for a spreadsheet, with every number of every score in a column of its own."""
    columns: dict[str, None] = {}
    rows = [_flat(row) for row in results["rows"]]
    for row in rows:
        columns |= dict.fromkeys(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: row[name] for name in ("system", "num_steps", "prompt_sensitivity", "silent_clips")}
    for key, score in row["metrics"].items():
        parts = ("value", "corrected", "low", "high", "n_generated", "n_reference", "too_few")
        flat |= {f"{key}.{part}": score[part] for part in parts}
    for name, value in (row["speed"] or {}).items():
        if not isinstance(value, dict | list):
            flat[f"speed.{name}"] = value
    return flat


def footnotes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before comparing the numbers."""
    notes = [
        "↓ smaller is better, ↑ larger is better. fad: Frechet distance, kad: 100 x kernel distance.",
        "With enough clips: the value corrected for their number [95 % interval]; else the plain value.",
    ]
    for embedding in results["metadata"]["embeddings"]:
        notes += _embedding_notes(results, embedding)
    notes.append(
        "n: clips, generated / reference. times real time: seconds of audio per second of waiting, one clip, median "
        "(range) of repetitions in turn with the other rows."
    )
    notes.append("prompt sensitivity: change of a clip by its prompt alone, 0 = deaf, about 1.4 = unrelated.")
    notes.append(passes_note(results["metadata"].get("seconds")))
    return notes


def _embedding_notes(results: Mapping[str, Any], embedding: Mapping[str, Any]) -> list[str]:
    name, width = embedding["name"], embedding["width"]
    notes = [f"{name}: {EmbeddingIdentity(**embedding)}."]
    if not embedding["trained"]:
        notes.append(f"fad_{name} uses hand-made features: it is not plain FAD; no published number compares.")
    if any(score.too_few for score in _scores(results).get(f"fad_{name}", [])):
        notes.append(f"† fewer than {2 * width} clips on a side: fad_{name} is mostly bias; compare equal n only.")
    return notes


def headings(results: Mapping[str, Any]) -> list[str]:
    """The titles of the columns."""
    distances = [f"{key} {'↑' if key.startswith('text') else '↓'}" for key in _scores(results)]
    return [
        "system",
        "steps ↓",
        *distances,
        "n",
        "times real time ↑",
        "prompt sensitivity",
        "passes per clip ↓",
        "saving ↑",
    ]


def lines(results: Mapping[str, Any]) -> list[list[str]]:
    """The cells below them, row by row."""
    metrics = list(_scores(results))
    return [_line(row, metrics) for row in results["rows"]]


def _scores(results: Mapping[str, Any]) -> dict[str, list[Score]]:
    """The scores of every metric over all rows.

    Raises:
        ValueError: rows that were measured in unlike embeddings stand in one column.
    """
    columns: dict[str, list[Score]] = {}
    for row in results["rows"]:
        for key, data in row["metrics"].items():
            columns.setdefault(key, []).append(Score.from_dict(data))
            refuse_unlike(columns[key][0], columns[key][-1])
    return columns


def _line(row: Mapping[str, Any], metrics: list[str]) -> list[str]:
    scores = {key: Score.from_dict(data) for key, data in row["metrics"].items()}
    counts = {f"{score.n_generated} / {score.n_reference}" for score in scores.values()}
    return [
        row["system"],
        str(row["num_steps"]),
        *[_distance(scores.get(key)) for key in metrics],
        ", ".join(sorted(counts)),
        _speed(row["speed"]),
        "-" if row["prompt_sensitivity"] is None else f"{row['prompt_sensitivity']:.3f}",
        *passes_cells(row),
    ]


def _speed(speed: Mapping[str, Any] | None) -> str:
    if speed is None:
        return "-"
    slowest, fastest = speed["times_real_time_range"]
    return f"{speed['times_real_time']:.3g} ({slowest:.3g}-{fastest:.3g})"


def _distance(score: Score | None) -> str:
    if score is None or score.value is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.value:.4g}{' †' if score.too_few else ''}"
    best = score.value if score.corrected is None else score.corrected
    return f"{best:.4g} [{score.low:.4g}, {score.high:.4g}]{' †' if score.too_few else ''}"
