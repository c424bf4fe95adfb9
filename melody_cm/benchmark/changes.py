"""What changed since an older comparison, row by row, where the same was measured in the same way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from melody_cm.benchmark.compare import SCHEMA_VERSION
from melody_cm.evaluation import Score, refuse_unlike
from melody_cm.evaluation.results import interval, verdict
from melody_cm.storage import read_json


def read_older(path: Path) -> dict[str, Any]:
    """The results.json of an earlier comparison.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is something else, or of another schema.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the results.json of an earlier `melody-cm compare`")
    results = read_json(path)
    version = results.get("schema_version") if isinstance(results, dict) else None
    if version != SCHEMA_VERSION or "rows" not in results:
        raise ValueError(
            f"{path}: results of schema {version!r}, but schema {SCHEMA_VERSION} of `melody-cm compare` is needed; "
            "compare again"
        )
    return results


def change_table(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Table:
    """Scores of the rows that both have, and whether their intervals part.

    Raises:
        ValueError: a score was measured in unlike embeddings.
    """
    before = {_title(row): row for row in older["rows"]}
    table = Table("row", "metric", "older", "interval", "this", "interval", "verdict")
    for row in newer["rows"]:
        for key in row["metrics"]:
            if key in before.get(_title(row), {}).get("metrics", {}):
                first, second = (Score.from_dict(one["metrics"][key]) for one in (before[_title(row)], row))
                refuse_unlike(first, second)
                sides = [cell for score in (first, second) for cell in (_number(score.value), interval(score))]
                table.add_row(_title(row), key, *sides, verdict(key, first, second))
    return table


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['system']}, {row['num_steps']} steps"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
