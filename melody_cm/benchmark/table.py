"""Results as a table, in Markdown, in the terminal and for a spreadsheet; all from the rows of `results.json`."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group

from melody_cm.benchmark.coherence import MEASURES, SEGMENT_SECONDS
from melody_cm.benchmark.passes import passes_cells, passes_note
from melody_cm.benchmark.sheet import Sheet, csv_text
from melody_cm.evaluation import Score, refuse_unlike
from melody_cm.interfaces import EmbeddingIdentity

TEXT, EXCESS = "text_correlation_", "excess_"


def sheets(results: Mapping[str, Any]) -> list[Sheet]:
    """The cells, with footnotes that say how far the numbers can be trusted; of long clips a second table."""
    summary = Sheet(headings(results), lines(results), footnotes(results))
    measures = [key for key in _scores(results) if key.startswith(MEASURES)]
    return [summary, _coherence(results, measures)] if measures else [summary]


def markdown_table(results: Mapping[str, Any]) -> str:
    """The content of table.md."""
    return "\n".join(sheet.markdown() for sheet in sheets(results))


def rich_table(results: Mapping[str, Any]) -> Group:
    """The same for a terminal."""
    return Group(*sheets(results))


def csv_table(results: Mapping[str, Any]) -> str:
    """The same rows for a spreadsheet, with every number of every score in a column of its own."""
    return csv_text([_flat(row) for row in results["rows"]])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: row[name] for name in ("system", "num_steps", "prompt_sensitivity", "silent_clips")}
    for key, score in row["metrics"].items():
        parts = ("value", "corrected", "low", "high", "n_generated", "n_reference", "too_few")
        flat |= {f"{key}.{part}": score[part] for part in parts}
        flat |= {f"{key}.{name}": value for name, value in score.get("details", {}).items()}
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
    notes += _text_notes(results)
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


def _text_notes(results: Mapping[str, Any]) -> list[str]:
    if not any(key.startswith(EXCESS) for key in _columns(results)):
        return []
    return [
        "excess: by how much the cosine of a clip and its own caption is above that with the captions of the other "
        "clips [95 % interval]; about 0 = deaf to the text."
    ]


def _coherence(results: Mapping[str, Any], measures: list[str]) -> Sheet:
    """What is asked of long clips alone."""
    titles = ["seam_ratio (1 is none)" if key == "seam_ratio" else key for key in measures]
    found = [
        [row["system"], str(row["num_steps"]), *[_distance(_score(row, key)) for key in measures]]
        for row in results["rows"]
    ]
    notes = ["Means over clips, of diversity over prompts [95 % interval]."]
    if "seam_ratio" in measures:
        notes.append("seam_ratio: change where windows meet over that elsewhere; 1 is seamless, more is a seam.")
    if "tempo_agreement" in measures:
        notes.append(
            f"segment_similarity, tempo_agreement, chroma_agreement: of all pairs of {SEGMENT_SECONDS:g} s segments of "
            "a clip. They are highest for music that never changes: neither end is better, and diversity (of the seeds "
            "of a prompt) tells coherent from constant."
        )
    return Sheet(["system", "steps ↓", *titles], found, notes, "How long clips hang together")


def _score(row: Mapping[str, Any], key: str) -> Score | None:
    return Score.from_dict(row["metrics"][key]) if key in row["metrics"] else None


def headings(results: Mapping[str, Any]) -> list[str]:
    """The titles of the columns."""
    return [
        "system",
        "steps ↓",
        *map(_heading, _columns(results)),
        "n",
        "times real time ↑",
        "prompt sensitivity",
        "passes per clip ↓",
        "saving ↑",
    ]


def lines(results: Mapping[str, Any]) -> list[list[str]]:
    """The cells below them, row by row."""
    columns = _columns(results)
    return [_line(row, columns) for row in results["rows"]]


def _heading(column: str) -> str:
    return f"{column} {'↑' if column.startswith((TEXT, EXCESS)) else '↓'}"


def _columns(results: Mapping[str, Any]) -> list[str]:
    """The metrics but those of long clips, each text correlation followed by its excess where there is one."""
    columns = []
    for key, scores in _scores(results).items():
        if key.startswith(MEASURES):
            continue
        columns.append(key)
        if key.startswith(TEXT) and any("excess" in score.details for score in scores):
            columns.append(key.replace(TEXT, EXCESS, 1))
    return columns


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


def _line(row: Mapping[str, Any], columns: list[str]) -> list[str]:
    scores = {key: Score.from_dict(data) for key, data in row["metrics"].items()}
    # A measure of clips alone has no reference to count.
    judged = [score for score in scores.values() if score.n_reference is not None]
    counts = {f"{score.n_generated} / {score.n_reference}" for score in judged}
    return [
        row["system"],
        str(row["num_steps"]),
        *[_excess(scores, key) if key.startswith(EXCESS) else _distance(scores.get(key)) for key in columns],
        ", ".join(sorted(counts)),
        _speed(row["speed"]),
        "-" if row["prompt_sensitivity"] is None else f"{row['prompt_sensitivity']:.3f}",
        *passes_cells(row),
    ]


def _excess(scores: Mapping[str, Score], column: str) -> str:
    score = scores.get(column.replace(EXCESS, TEXT, 1))
    if score is None or "excess" not in score.details:
        return "-"
    told = score.details
    interval = f" [{told['excess_low']:.4g}, {told['excess_high']:.4g}]" if "excess_low" in told else ""
    return f"{told['excess']:.4g}{interval}"


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
