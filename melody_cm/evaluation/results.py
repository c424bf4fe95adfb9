"""The results of `melody-cm evaluate`: read, compared with older ones, shown as tables."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from melody_cm.evaluation.score import Score, refuse_unlike, unlike_n
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.storage.files import read_json

SCHEMA_VERSION = 2
WORST_SHOWN, LEFT_OUT_SHOWN = 5, 10
LARGER_IS_BETTER = ("text_correlation",)
DETAILS = {
    "infinity": "extrapolated to infinitely many generated clips",
    "shuffled": "with wrong captions",
    "excess": "nearer to its own caption than to wrong ones by",
    "excess_low": "lower end of the interval of that",
    "excess_high": "upper end of the interval of that",
    "mean_similarity": "mean cosine to the nearest training clip",
}


def read_results(
    path: Path, verb: str = "evaluate", schema_version: int = SCHEMA_VERSION, key: str = "metrics"
) -> dict[str, Any]:
    """A results.json of `melody-cm evaluate`, or of another verb, whose schema and one key that it has are given.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is something else, or of another schema.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the results.json of an earlier `melody-cm {verb}`")
    results = read_json(path)
    version = results.get("schema_version") if isinstance(results, dict) else None
    if version != schema_version or key not in results:
        raise ValueError(
            f"{path}: results of schema {version!r}, but schema {schema_version} of `melody-cm {verb}` is needed; "
            f"{verb} again"
        )
    return results


def refuse_incomparable(
    older: Mapping[str, Any], identities: Iterable[EmbeddingIdentity], reference_fingerprint: str
) -> None:
    """Refuse, before any work, to compare with results of another reference or of other embeddings.

    Raises:
        ValueError: the references differ, no embedding is shared, or one of that name has another identity.
    """
    if older["metadata"]["reference_fingerprint"] != reference_fingerprint:
        raise ValueError(
            f"the results cannot be compared, because their references differ: {older['metadata'].get('reference')!r} "
            "has another content (or split); evaluate both against the same music"
        )
    known = older["metadata"]["embeddings"]
    shared = [identity for identity in identities if identity.name in known]
    if not shared:
        raise ValueError(f"the older results know only the embedding {', '.join(known)}; evaluate with one of them")
    for identity in shared:
        refuse_unlike(_measured_in(known[identity.name]), _measured_in(asdict(identity)))


def _measured_in(identity: dict[str, Any]) -> Score:
    return Score(None, None, None, None, "", 0, None, True, identity)


def scores(results: Mapping[str, Any]) -> dict[str, Score]:
    """All scores by metric key."""
    return {key: Score.from_dict(value) for key, value in results["metrics"].items()}


def result_table(results: Mapping[str, Any]) -> Group:
    """The scores with their intervals, what they are not, the clips farthest from the reference and those left out."""
    table = Table("metric", "value", "corrected", "95 % interval", "n generated / reference")
    for key, score in scores(results).items():
        table.add_row(f"{key} {_arrow(key)}", *_cells(score))
    notes = [*_notes(scores(results)), *_worst(results["songs"]), *_left_out(results["dropped"])]
    return Group(table, *(Text(note) for note in notes))


def change_table(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Group:
    """Both results side by side, and whether their intervals part.

    Raises:
        ValueError: scores of unlike embeddings.
    """
    before, after = scores(older), scores(newer)
    table, notes = Table("metric", "older", "interval", "this", "interval", Column("verdict", no_wrap=True)), []
    for key in (key for key in after if key in before):
        refuse_unlike(before[key], after[key])
        sides = [(_number(score.value), interval(score)) for score in (before[key], after[key])]
        table.add_row(f"{key} {_arrow(key)}", *sides[0], *sides[1], verdict(key, before[key], after[key]))
        notes += [f"{key}: {note}" for note in (unlike_n(before[key], after[key]),) if note]
    return Group(table, *(Text(note) for note in notes))


def verdict(key: str, before: Score, after: Score) -> str:
    """ "better" or "worse" where the intervals part, else "not distinguishable"; "too few clips" without intervals."""
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return "too few clips"
    if before.low <= after.high and after.low <= before.high:
        return "not distinguishable"
    return "better" if (after.low > before.high) == key.startswith(LARGER_IS_BETTER) else "worse"


def interval(score: Score) -> str:
    """The interval in brackets, a dash where there is none."""
    return "-" if score.low is None or score.high is None else f"[{score.low:.4g}, {score.high:.4g}]"


def _cells(score: Score) -> list[str]:
    counts = f"{score.n_generated} / {'?' if score.n_reference is None else score.n_reference}"
    return [_number(score.value) + (" †" if score.too_few else ""), _number(score.corrected), interval(score), counts]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _arrow(key: str) -> str:
    return "↑" if key.startswith(LARGER_IS_BETTER) else "↓"


def _notes(found: Mapping[str, Score]) -> list[str]:
    notes = ["↓ smaller is better, ↑ larger is better; corrected: without the bias of small samples."]
    embeddings = [score.embedding for score in found.values() if score.embedding]
    identities = {embedding["name"]: EmbeddingIdentity(**embedding) for embedding in embeddings}
    for identity in identities.values():
        worth = "" if identity.trained else "; hand-made features: not plain FAD, not comparable with published numbers"
        notes.append(f"{identity}{worth}")
    if few := [key for key, score in found.items() if score.too_few]:
        notes.append(f"† too few clips ({', '.join(few)}): uncertain, and a Frechet distance is mostly bias.")
    for key, score in found.items():
        told = [(words, score.details[name]) for name, words in DETAILS.items() if name in score.details]
        notes += [f"{key}: {words} {value:.4g}" for words, value in told]
        notes += [f"{key}: {warning}" for warning in score.warnings]
    return notes


def _worst(songs: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for key, values in songs.items():
        worst = sorted(values.items(), key=lambda item: -item[1])[:WORST_SHOWN]
        named = ", ".join(f"{name} {value:.4g}" for name, value in worst)
        lines += [f"farthest clips by {key}: {named}"] if worst else []
    return lines


def _left_out(dropped: Mapping[str, Mapping[str, Mapping[str, list[str]]]]) -> list[str]:
    """What no embedding could use, once; a long list is only begun here."""
    lines: dict[str, None] = {}
    for sides in dropped.values():
        for side, reasons in sides.items():
            for reason, messages in reasons.items():
                shown = [f"left out ({side}, {reason}): {message}" for message in messages[:LEFT_OUT_SHOWN]]
                more = len(messages) - len(shown)
                lines |= dict.fromkeys([*shown, *([f"left out ({side}, {reason}): {more} more"] if more else [])])
    return list(lines)
