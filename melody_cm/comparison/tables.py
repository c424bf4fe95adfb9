"""The tables of a comparison and of an ablation, with footnotes that say how far their numbers can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from rich.console import Group

from melody_cm.comparison.ceilings import MUSIC, PAIRED
from melody_cm.comparison.coherence import SEGMENT_SECONDS
from melody_cm.evaluation.forward_passes import musiclm_passes
from melody_cm.evaluation.results import Difference, Results, Row, arrow, larger_is_better
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.tables import Sheet, embedding_notes
from melody_cm.evaluation.uncertainty import MIN_GROUPS

PAIRS_SHOWN = 6
LEADING = 6
VERDICTS = "Verdicts"
SPEED, PASSES = "times real time ↑", "passes per clip ↓"
TEXT, EXCESS, AREA = "text_correlation_", "excess_", "prompt_auc_"
ABLATED = {
    "velocity_mse": "squared error of the predicted velocity, mean over elements and 16 noise levels",
    "si_snri": "dB that one call gains over the noisy latent, mean over clips and 16 noise levels",
    "si_snri_median": "the median of the same",
    "student_error": "student's one step against the teacher's 50 guided steps from the same noise, relative RMS",
    "teacher_error": "the guided teacher's own one step against the same",
    "sampling_error": "result of few steps against 100 steps of the same sampler from the same noise, relative RMS",
}


def sheets(results: Results) -> list[Sheet]:
    """The tables of the results; a comparison of long clips has a second one."""
    if results.verb == "ablate":
        return [_ablation(results)]
    keys = results.metrics()
    coherent = [key for key in keys if larger_is_better(key) is None and key not in MUSIC]
    heard = [key for key in (*MUSIC, *PAIRED) if key in keys]
    return [
        _comparison(results),
        *([_music(results, heard)] if heard else []),
        *([_coherence(results, coherent)] if coherent else []),
        *_decided(results),
    ]


def markdown_table(results: Results) -> str:
    """The content of table.md."""
    return "\n".join(sheet.markdown() for sheet in sheets(results))


def rich_table(results: Results) -> Group:
    """The same for a terminal."""
    return Group(*sheets(results))


def main_judge(results: Results) -> str:
    """The distance by which a report ranks: Frechet's in the first embedding, the kernel's where clips are too few."""
    name = results.metadata["embeddings"][0]["name"]
    keys = [f"fad_{name}", f"kad_{name}"]
    frechet, kernel = map(results.scores, keys)
    too_few = any(score.too_few for score in frechet)
    return keys[1] if too_few and kernel and not any(score.too_few for score in kernel) else keys[0]


def prompt_measure(results: Results) -> str | None:
    """The column that tells whether clips follow their prompts, if there is one."""
    columns = _columns(results)
    areas = tuple(f"{AREA}{name}" for name in results.embeddings())  # Not those of single instruments.
    return next((column for start in (EXCESS, TEXT, areas) for column in columns if column.startswith(start)), None)


def leading_columns(results: Results) -> list[str]:
    """The headings of at most six columns that a reader needs first."""
    if results.verb == "ablate":
        return _ablation(results).headings[:LEADING]
    measures = [key + arrow(key) for key in (main_judge(results), prompt_measure(results)) if key]
    return ["system", "steps ↓", *measures, SPEED, PASSES]


def _comparison(results: Results) -> Sheet:
    columns = _columns(results)
    last = ["n", SPEED, "prompt sensitivity", PASSES, "saving ↑"]
    headings = ["system", "steps ↓", *[column + arrow(column) for column in columns], *last]
    return Sheet(headings, [_line(row, columns) for row in results.rows], _footnotes(results, columns))


def _columns(results: Results) -> list[str]:
    """The metrics but those of long clips, each text correlation followed by its excess where there is one."""
    columns = []
    for key in results.metrics():
        if larger_is_better(key) is None or key in PAIRED:
            continue
        columns.append(key)
        if key.startswith(TEXT) and any("excess" in score.details for score in results.scores(key)):
            columns.append(key.replace(TEXT, EXCESS, 1))
    return columns


def _line(row: Row, columns: list[str]) -> list[str]:
    counts = {score.counts() for key, score in row.metrics.items() if key.startswith(("fad_", "kad_"))}
    sensitivity = row.facts.get("prompt_sensitivity")
    return [
        row.label,
        _steps(row),
        *["-" if (score := shown(row, column)) is None else score.cell() for column in columns],
        ", ".join(sorted(counts)),
        _speed(row.facts.get("speed")),
        "-" if sensitivity is None else f"{sensitivity:.3f}",
        *_passes(row.facts.get("passes")),
    ]


def _steps(row: Row) -> str:
    return "-" if row.num_steps is None else str(row.num_steps)


def shown(row: Row, column: str) -> Score | None:
    """What a column shows of a row: a metric, or the excess of a text correlation; None where it was not measured."""
    score = row.metrics.get(column.replace(EXCESS, TEXT, 1))
    if score is None or not column.startswith(EXCESS):
        return score
    value, low, high = (score.details.get(name) for name in ("excess", "excess_low", "excess_high"))
    return None if value is None else replace(score, value=value, corrected=None, low=low, high=high, too_few=False)


def _speed(speed: Mapping[str, Any] | None) -> str:
    if speed is None:
        return "-"
    slowest, fastest = speed["times_real_time_range"]
    return f"{speed['times_real_time']:.3g} ({slowest:.3g}-{fastest:.3g})" + ("" if speed["steady"] else " ‡")


def _passes(passes: Mapping[str, Any] | None) -> list[str]:
    """Passes, measured / by formula, and the saving."""
    if passes is None:
        return ["-", "-"]
    formula = "-" if passes["closed_form"] is None else str(passes["closed_form"])
    return [f"{passes['total']['batched']} / {formula}", per_cent(passes["saving"])]


def per_cent(share: float) -> str:
    """With as many digits as keep what is not the whole from being called that."""
    return f"{share:.2%}" if 0.9995 <= share < 1 else f"{share:.1%}"


def _footnotes(results: Results, columns: list[str]) -> list[str]:
    seconds, placed = results.metadata.get("seconds"), results.metadata.get("placement")
    musiclm = "" if seconds is None else f", {musiclm_passes(seconds)} a clip"
    notes = [
        "↓ smaller is better, ↑ larger is better. fad: Frechet distance, kad: 100 x kernel distance.",
        "With enough clips: the value corrected for their number [95 % interval]; else the plain value.",
        *embedding_notes(results),
    ]
    if any(column.startswith(EXCESS) for column in columns):
        notes.append(
            "excess: by how much the cosine of a clip and its own caption is above that with the captions of the other "
            "clips [95 % interval]; about 0 = deaf to the text."
        )
    return [
        *notes,
        "n: clips (of so many prompts or pieces), generated / reference. times real time: seconds of audio per second "
        "of waiting, one clip, median (range) of repetitions in turn with the other rows; ‡ the machine was busy.",
        "prompt sensitivity: change of a clip by its prompt alone, of a few pairs from the same noise; 0 = deaf, about "
        "1.4 = unrelated.",
        "passes per clip: calls of token models and denoisers, measured / by the papers' formula; guidance in the same "
        f"batch counts one. saving: against MusicLM's 25 + 200 + 400 tokens a second{musiclm}.",
        *disagreement(results),
        *([f"All systems ran on {placed['device']} in {placed['precision']}."] if placed else []),
        _tests_note(results),
    ]


def rivals(results: Results) -> list[Row]:
    """The rows of systems, without those that repeat another one with other seeds."""
    return [row for row in results.rows if row.num_steps is not None and not row.facts.get("null_of")]


def disagreement(results: Results) -> list[str]:
    """Where the two first embeddings, by their kernel distances, order systems differently."""
    keys = [f"kad_{name}" for name in results.embeddings()][:2]
    rows = [row for row in rivals(results) if all(key in row.metrics for key in keys)]
    rows = [row for row in rows if all(row.metrics[key].best is not None for key in keys)]
    pairs = list(combinations(rows, 2))
    unlike = [
        f"{one.title} / {other.title}"
        for one, other in pairs
        if len({one.metrics[key].best < other.metrics[key].best for key in keys}) > 1
    ]
    if not unlike:
        return []
    told = f"{'; '.join(unlike[:PAIRS_SHOWN])}{'; ...' if len(unlike) > PAIRS_SHOWN else ''}"
    return [f"{' and '.join(keys)} order {len(unlike)} of {len(pairs)} pairs of rows differently: {told}."]


def _music(results: Results, keys: list[str]) -> Sheet:
    """Level and pitch of all rows, and what decoders leave of real music."""
    lines = [[row.label, _steps(row), *map(row.cell, keys)] for row in results.rows]
    notes = [
        "Means over clips [95 % interval over prompts or pieces]; of systems the first take of every prompt. Of the "
        "first four neither end is better: compare with real music.",
        "level_dbfs: RMS. loudness_lufs: BS.1770. chroma_clarity, pitch_clarity: high for few clear notes, low for "
        "noise.",
    ]
    if any(key in PAIRED for key in keys):
        notes.append(
            "chroma_correlation, log_spectral_distance (dB), si_snr (dB): of real clips through a decoder with the "
            "clips themselves, the most that its system reaches. A mel decoder's phases are not the music's, so its "
            "si_snr is always low."
        )
    return Sheet(["row", "steps ↓", *[key + arrow(key) for key in keys]], lines, notes, "Level, pitch and decoders")


def _tests_note(results: Results) -> str:
    tests = results.tests()
    if not tests:
        return f"No verdicts: they need at least {MIN_GROUPS} prompts, and measures with an interval."
    decided = sum(one.verdict != "not distinguishable" for one in tests)
    return (
        f"This table holds {len(tests)} tests, {decided} of them decided; the others cannot be told. Student's test "
        "over prompts and seeds (of distances: jackknife over prompts and pieces of the reference), with Holm's "
        "correction for all tests. One training stands for each system: another may sound otherwise."
    )


def _decided(results: Results) -> list[Sheet]:
    """The differences between rows that were decided; the others are not distinguishable."""
    decided = [one for one in results.tests() if one.verdict != "not distinguishable"]
    note = "The intervals are those of each difference alone, the p values those with the correction for all tests."
    return [replace(tests_sheet(decided), notes=[note], title=VERDICTS)] if decided else []


def tests_sheet(tests: Sequence[Difference]) -> Sheet:
    """Differences with their corrected p values and verdicts."""
    lines = [[one.first, one.second, one.metric, one.text(), f"{one.p_holm:.2g}", one.verdict] for one in tests]
    return Sheet(
        ["first", "second", "measure", "first - second [95 % interval]", "p (Holm)", "the first is"], lines, []
    )


def _coherence(results: Results, measures: list[str]) -> Sheet:
    titles = ["seam_ratio (1 is none)" if key == "seam_ratio" else key for key in measures]
    rows = [row for row in results.rows if any(key in row.metrics for key in measures)]
    lines = [[row.label, _steps(row), *map(row.cell, measures)] for row in rows]
    notes = ["Means over clips, of diversity over prompts [95 % interval]."]
    if "seam_ratio" in measures:
        notes.append("seam_ratio: change where windows meet over that elsewhere; 1 is seamless, more is a seam.")
    if "tempo_agreement" in measures:
        notes.append(
            f"segment_similarity, tempo_agreement, chroma_agreement: of all pairs of {SEGMENT_SECONDS:g} s segments of "
            "a clip. They are highest for music that never changes: neither end is better, and diversity (of the seeds "
            "of a prompt) tells coherent from constant."
        )
    return Sheet(["system", "steps ↓", *titles], lines, notes, "How long clips hang together")


def _ablation(results: Results) -> Sheet:
    """A line for each recipe and number of steps, a column for each metric."""
    metrics = results.metrics()
    verdicts = {(one.first, one.metric): one.verdict for one in results.differences}
    lines = []
    for row in results.rows:
        cells = [_mean_cell(row, key, verdicts.get((row.title, key))) for key in metrics]
        lines.append([row.label, "" if row.num_steps is None else str(row.num_steps), *cells])
    return Sheet(["recipe", "steps", *[key + arrow(key) for key in metrics]], lines, _ablation_notes(results, metrics))


def _mean_cell(row: Row, metric: str, verdict: str | None) -> str:
    if metric not in row.metrics:
        return ""
    score = row.metrics[metric]
    spread = f" ± {score.details['std']:.2g}" if "std" in score.details else ""
    mark = " †" if score.too_few else ""
    return f"{score.value:.4g}{spread}{mark}" + (f" ({verdict})" if verdict else "")


def _ablation_notes(results: Results, metrics: list[str]) -> list[str]:
    seeds = ", ".join(str(seed) for seed in results.metadata["seeds"])
    lines = [
        f"mean ± standard deviation over the seeds {seeds}; in brackets the verdict against "
        f"{results.metadata['baseline']}, from Student's test of the differences seed by seed, with Holm's "
        f"correction for the {len(results.tests())} tests of this table: few seeds tell only large differences apart.",
        *[f"{metric}: {ABLATED[metric]}." for metric in metrics if metric in ABLATED],
    ]
    for name in results.embeddings():
        # Not as many as were asked for: there may be fewer, and they come in whole batches.
        clips = min(score.n_generated for score in results.scores(f"fad_{name}"))
        lines.append(
            f"fad_{name}, kad_{name}: plain Frechet and 100 x kernel distance of {clips} samples to the {clips} test "
            "clips they were made from."
        )
    return [*lines, *embedding_notes(results)]
