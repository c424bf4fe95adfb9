"""What changed since an older comparison, row by row, where the same was measured in the same way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from melody_cm.benchmark.coherence import MEASURES
from melody_cm.benchmark.compare import SCHEMA_VERSION
from melody_cm.benchmark.row import row_title
from melody_cm.evaluation import Score, refuse_unlike
from melody_cm.evaluation.results import interval, read_results, verdict


def read_older(path: Path) -> dict[str, Any]:
    """The results.json of an earlier comparison.

    Raises:
        FileNotFoundError, ValueError: as `read_results`.
    """
    return read_results(path, "compare", SCHEMA_VERSION, "rows")


def change_table(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Table:
    """Scores of the rows that both have, and whether their intervals part.

    Raises:
        ValueError: a score was measured in unlike embeddings.
    """
    before = {row_title(row): row for row in older["rows"]}
    table = Table("row", "metric", "older", "interval", "this", "interval", "verdict")
    for row in newer["rows"]:
        title = row_title(row)
        for key in row["metrics"]:
            if key in before.get(title, {}).get("metrics", {}):
                first, second = (Score.from_dict(one["metrics"][key]) for one in (before[title], row))
                refuse_unlike(first, second)
                sides = [cell for score in (first, second) for cell in (_number(score.value), interval(score))]
                table.add_row(title, key, *sides, _verdict(key, first, second))
    return table


def _verdict(key: str, before: Score, after: Score) -> str:
    """Music that hangs together more is not better music: a single tone does so best."""
    found = verdict(key, before, after)
    if not key.startswith(MEASURES):
        return found
    # Of what is unknown to it, `verdict` calls less better.
    return {"better": "lower", "worse": "higher"}.get(found, found)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
