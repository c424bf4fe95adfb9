"""Results as a table, in Markdown and in the terminal; both from the rows of `results.json`."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from melody_cm.interfaces import EmbeddingIdentity


def markdown_table(results: Mapping[str, Any]) -> str:
    """A Markdown table with footnotes that say how far the numbers can be trusted."""
    header, *body = _cells(results)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    notes = "\n".join(f"- {note}" for note in footnotes(results))
    return f"{table}\n\n{notes}\n"


def rich_table(results: Mapping[str, Any]) -> Table:
    """The same table for a terminal."""
    header, *body = _cells(results)
    table = Table(caption="\n".join(footnotes(results)), caption_justify="left")
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index == 0 else "right")
    for line in body:
        table.add_row(*line)
    return table


def footnotes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before comparing the numbers."""
    embedding = results["metadata"]["embedding"]
    key = f"fad_{embedding['name']}"
    identity = EmbeddingIdentity(**embedding)
    notes = [f"↓ smaller is better, ↑ larger is better. {key}: Frechet distance of {identity}."]
    if not embedding["trained"]:
        notes.append(f"{key} uses hand-made features: it is not plain FAD and not comparable with published numbers.")
    if any(metric["too_few"] for row in results["rows"] for metric in row["metrics"].values()):
        limit = 2 * embedding["width"]
        notes.append(f"† fewer than {limit} clips on a side: too few, mostly bias; compare only rows with the same n.")
    notes.append("n: clips, generated / reference. times real time: seconds of audio per second of waiting, one clip.")
    notes.append("prompt sensitivity: change of a clip by its prompt alone, 0 = deaf, about 1.4 = unrelated.")
    return notes


def _cells(results: Mapping[str, Any]) -> list[list[str]]:
    rows = results["rows"]
    metrics = list(dict.fromkeys(key for row in rows for key in row["metrics"]))
    header = ["system", "steps ↓", *[f"{key} ↓" for key in metrics], "n", "times real time ↑", "prompt sensitivity"]
    return [header, *[_line(row, metrics) for row in rows]]


def _line(row: Mapping[str, Any], metrics: list[str]) -> list[str]:
    values = [row["metrics"].get(key) for key in metrics]
    counts = {f"{value['n_generated']} / {value['n_reference']}" for value in values if value}
    return [
        row["system"],
        str(row["num_steps"]),
        *[_distance(value) for value in values],
        ", ".join(sorted(counts)),
        f"{row['speed']['times_real_time']:.3g}",
        "-" if row["prompt_sensitivity"] is None else f"{row['prompt_sensitivity']:.3f}",
    ]


def _distance(metric: Mapping[str, Any] | None) -> str:
    return "-" if metric is None else f"{metric['value']:.4g}{' †' if metric['too_few'] else ''}"
