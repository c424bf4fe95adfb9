"""Which of two systems is better on the same prompts, or whether that cannot be told from so few."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch

from melody_cm.benchmark.row import row_title
from melody_cm.evaluation import compare_paired

SMALLER_IS_BETTER = ("song_distance_",)


def compare_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every pair of rows by every measure that single clips have, with a bootstrap over prompts.

    Returns:
        a list of {first, second, metric, difference, low, high, n, verdict}; the difference is first - second, the
        verdict speaks of the first.
    """
    found = []
    for first, second in combinations(rows, 2):
        titles = {"first": row_title(first), "second": row_title(second)}
        for metric in first["by_prompt"].keys() & second["by_prompt"].keys():
            pairs = zip(first["by_prompt"][metric], second["by_prompt"][metric], strict=True)
            values = [(one, other) for one, other in pairs if one is not None and other is not None]
            if len(values) > 1:
                found.append({**titles, **_compared(metric, values)})
    return sorted(found, key=lambda pair: (pair["metric"], pair["first"], pair["second"]))


def _compared(metric: str, values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    sign = -1.0 if metric.startswith(SMALLER_IS_BETTER) else 1.0
    one, other = torch.tensor(values, dtype=torch.float64).unbind(1)
    result = compare_paired(sign * one, sign * other)
    low, high = sorted((sign * result.low, sign * result.high))
    return {
        "metric": metric,
        "difference": sign * result.difference,
        "low": low,
        "high": high,
        "n": len(values),
        "verdict": result.verdict,
    }
