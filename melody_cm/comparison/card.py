"""What a comparison found of one system, as its model card tells it."""

from pathlib import Path
from typing import Any

from melody_cm.comparison.clips import describe_pipeline
from melody_cm.evaluation.results import Results, Row
from melody_cm.pipelines import PretrainedPipeline

KINDS = ("fad", "kad", "prompt_auc", "text_correlation")


def card_results(pipeline: PretrainedPipeline, results: Results) -> dict[str, Any]:
    """The rows of a system, with embedding, counts and interval of every score, as plain data for its model card.

    Raises:
        ValueError: the comparison had no system of these weights and settings.
    """
    systems = results.metadata.get("systems") or {}
    names = [name for name in systems if systems[name] == describe_pipeline(pipeline)]
    rows = [line for row in results.rows if row.label in names for line in _lines(row, list(results.embeddings()))]
    if not rows:
        raise ValueError(
            f"the results are of {', '.join(systems)}, none of which has the weights and settings of this "
            f"{type(pipeline).__name__}; compare it first"
        )
    return {"judged": _judged(results.metadata), "rows": rows}


def _judged(told: dict[str, Any]) -> str:
    placed, music = told["placement"], [Path(told[key]).name for key in ("reference", "corpus") if key in told]
    return (
        f"{len(told['prompts'])} prompts x {len(told['seeds'])} seed(s), clips of {told['seconds']:g} s, made on "
        f"{placed['device']} in {placed['precision']}, {told['created'][:10]}. Reference: {' of '.join(music) or '?'}. "
        "n: clips (of so many prompts or pieces), generated / reference; †: too few, mostly bias."
    )


def _lines(row: Row, embeddings: list[str]) -> list[list[str]]:
    keys = [f"{kind}_{name}" for name in embeddings for kind in KINDS]
    return [
        [str(row.num_steps), key, score.cell(), _embedding(score.embedding or {}), score.counts().removesuffix(" / ?")]
        for key in keys
        if (score := row.metrics.get(key)) is not None
    ]


def _embedding(identity: dict[str, Any]) -> str:
    return f"{identity.get('name')} {identity.get('version')}, weights {identity.get('weights')}"
