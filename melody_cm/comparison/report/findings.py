"""What a report opens with: what was compared, of what to beware, and a sentence for each finding with its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from melody_cm.comparison.tables import (
    AREA,
    EXCESS,
    TEXT,
    disagreement,
    main_judge,
    per_cent,
    prompt_measure,
    rivals,
    shown,
)
from melody_cm.evaluation.results import Results, Row
from melody_cm.evaluation.uncertainty import MIN_GROUPS

NOT_TOLD = "not distinguishable"
DEAF = {EXCESS: 0.0, AREA: 0.5}  # What a system scores that does not hear its prompts.
NAMED = 3  # Rows that a sentence names; of more it says how many.
WORTH = {
    "tiny": "Tiny models only prove that the path works: expect noise-like music and distances that mean little.",
    "cpu": "Models of a few million parameters: real learning, far from the papers' quality.",
}


@dataclass(frozen=True)
class Finding:
    """A sentence, and in a word or two how sure it is."""

    text: str
    verdict: str


def opening(results: Results) -> str:
    """What was compared, of what size, with which music, judged by how many clips."""
    metadata = results.metadata
    size = f"Size {metadata['size']}. " if "size" in metadata else ""
    corpus = f"Corpus: {corpus_name(metadata['corpus'])}. " if "corpus" in metadata else ""
    seeds = count(len(metadata["seeds"]), "seed")
    if results.verb == "ablate":
        recipes = dict.fromkeys(row.label for row in results.rows)
        clips = f", measured on {metadata['clips']} test clips" if "clips" in metadata else ""
        return (
            f"{len(recipes)} recipes with {seeds} each{clips}; baseline: {metadata['baseline']}. {size}{corpus}".strip()
        )
    rows = [row for row in results.rows if row.num_steps is not None]
    systems = count(len(dict.fromkeys(row.label for row in rows)), "system")
    seconds = f" of {metadata['seconds']:g} s" if "seconds" in metadata else ""
    made = f"{systems}, {count(len(metadata['prompts']), 'prompt')}, {seeds}, clips{seconds}."
    return f"{made} {_parameters(rows)}{size}{corpus}{_judged(results, rows)}".strip()


def _judged(results: Results, rows: Sequence[Row]) -> str:
    scores = [row.metrics[main_judge(results)] for row in rows if main_judge(results) in row.metrics]
    if not scores:
        return ""

    def side(name: str, clips: int | None, groups: str) -> str:
        own = f" of {count(scores[0].groups[name], groups)}" if name in scores[0].groups else ""
        return f"{'?' if clips is None else clips} clips{own}"

    generated, real = scores[0].n_generated, scores[0].n_reference
    return f"Each row: {side('generated', generated, 'prompt')}, judged against {side('reference', real, 'piece')}."


def _parameters(rows: Sequence[Row]) -> str:
    """The sizes of the models in millions of parameters, where they were counted."""
    counted = [(row.facts.get("speed") or {}).get("parameters") for row in rows]
    told = sorted({round(number / 1e6, 1) for number in counted if number})
    if not told:
        return ""
    return f"{told[0]:g}{f' to {told[-1]:g}' if len(told) > 1 else ''} million parameters. "


def corpus_name(corpus: str) -> str:
    """What people call a corpus."""
    return "the procedural corpus" if corpus == "procedural" else Path(corpus).name


def cautions(results: Results) -> list[str]:
    """Of what a reader must beware, the worst first."""
    metadata = results.metadata
    found = [WORTH[metadata["size"]]] if metadata.get("size") in WORTH else []
    if results.verb == "ablate":
        if len(metadata["seeds"]) < 2:
            found.append("One seed a recipe: there are no verdicts, and any order may be chance.")
        return found
    prompts = len(metadata["prompts"])
    if prompts < MIN_GROUPS:
        found.append(
            f"{count(prompts, 'prompt')}, fewer than {MIN_GROUPS}: there are no verdicts, and any order may be chance."
        )
    if random := [row.title for row in results.rows if row.facts.get("random_weights")]:
        found.append(f"Random weights, read nothing but speed: {_named(random)}.")
    if silent := [row.title for row in results.rows if row.facts.get("silent_clips")]:
        found.append(f"Silent clips: {_named(silent)}.")
    if not (metadata.get("probe") or {}).get("steady", True):
        found.append("The machine was busy: speeds are rough (‡).")
    return found


def findings(results: Results) -> list[Finding]:
    """A sentence for each thing that was asked."""
    if results.verb == "ablate":
        baseline = results.metadata["baseline"]
        labels = dict.fromkeys(row.label for row in results.rows if row.label != baseline)
        return [_of_variant(results, label, baseline) for label in labels]
    rows = rivals(results)
    found = [_of_judge(results, rows), _of_prompts(results, rows), _of_speed(rows), _of_passes(rows)]
    unlike = [Finding(sentence, "a caution") for sentence in disagreement(results)]
    return [one for one in [*found, *_of_nulls(results), *unlike] if one is not None]


def _of_judge(results: Results, rows: Sequence[Row]) -> Finding | None:
    key = main_judge(results)
    told = [row for row in rows if key in row.metrics and row.metrics[key].best is not None]
    if not told:
        return None
    best = min(told, key=lambda row: row.metrics[key].best)
    real = [f"; {row.label}: {row.cell(key)}" for row in results.rows if row.label == "real music"]
    lead = f"Nearest to real music by {key}: {best.title} with {best.cell(key)}{''.join(real)}."
    return _against_others(results, best, key, lead)


def _of_prompts(results: Results, rows: Sequence[Row]) -> Finding | None:
    column = prompt_measure(results)
    if column is None:
        return None
    told = [(row, score) for row in rows if (score := shown(row, column)) is not None and score.best is not None]
    if not told:
        return None
    best, score = max(told, key=lambda one: one[1].best)
    lead = f"Follows its prompts best by {column}: {best.title} with {score.best:.3g}."
    deaf = next((value for start, value in DEAF.items() if column.startswith(start)), None)
    if deaf is not None and score.low is not None and score.low <= deaf:
        lead += f" Its interval holds {deaf:g}, so even this one may be deaf to the text."
    tested = column.replace(EXCESS, TEXT, 1).replace(TEXT, "text_similarity_", 1)
    return _against_others(results, best, tested, lead)


def _against_others(results: Results, best: Row, metric: str, lead: str) -> Finding:
    """The sentence of the best row with what the tests say of it against the others."""
    nulls = {row.title for row in results.rows if row.facts.get("null_of")}
    tests = [one for one in results.tests() if one.metric == metric and best.title in (one.first, one.second)]
    tests = [one for one in tests if not nulls & {one.first, one.second}]
    if not tests:
        return Finding(f"{lead} No test compares it with the others.", "no verdict")
    others = {one.second if one.first == best.title else one.first: one.verdict for one in tests}
    beaten = [title for title, verdict in others.items() if verdict != NOT_TOLD]
    equal = [title for title, verdict in others.items() if verdict == NOT_TOLD]
    if not beaten:
        return Finding(f"{lead} Not distinguishable from {_named(equal)}.", NOT_TOLD)
    rest = f"; not distinguishable from {_named(equal)}" if equal else ""
    return Finding(f"{lead} Decided against {_named(beaten)}{rest}.", "decided" if not equal else "partly decided")


def _of_speed(rows: Sequence[Row]) -> Finding | None:
    """Which row is the fastest, judged by the ranges of the repetitions."""
    told = [(row, row.facts["speed"]) for row in rows if row.facts.get("speed")]
    if len(told) < 2:
        return None
    (fast, speed), *others = sorted(told, key=lambda one: -one[1]["times_real_time"])
    slow, slowest = others[-1]
    ratio = speed["times_real_time"] / slowest["times_real_time"]
    apart = [row for row, one in others if speed["times_real_time_range"][0] > one["times_real_time_range"][1]]
    low, high = speed["times_real_time_range"]
    lead = (
        f"Fastest: {fast.title} at {speed['times_real_time']:.3g} ({low:.3g}-{high:.3g}) times real time, {ratio:.2g} "
        f"times as fast as {slow.title}."
    )
    verdict = "ranges part" if len(apart) == len(others) else "ranges overlap"
    return Finding(f"{lead} Its range lies above that of {len(apart)} of {len(others)} others.", verdict)


def _of_passes(rows: Sequence[Row]) -> Finding | None:
    told = [(row, passes) for row in rows if (passes := row.facts.get("passes"))]
    if len(told) < 2:
        return None
    row, passes = min(told, key=lambda one: one[1]["total"]["batched"])
    calls = count(passes["total"]["batched"], "network pass", "es")
    return Finding(
        f"Fewest passes: {row.title} makes a clip in {calls}, {per_cent(passes['saving'])} fewer than MusicLM.",
        "counted",
    )


def _of_nulls(results: Results) -> list[Finding]:
    """Whether a system could be told from itself."""
    found = []
    for row in (row for row in results.rows if row.facts.get("null_of")):
        tests = [one for one in results.tests() if row.title in (one.first, one.second)]
        false = sum(one.verdict != NOT_TOLD for one in tests)
        text = (
            f"{row.facts['null_of']} against itself with other seeds: {false} of {count(len(tests), 'test')} decided."
        )
        found.append(Finding(text, "false alarm" if false else "as it should be"))
    return found


def _of_variant(results: Results, label: str, baseline: str) -> Finding:
    titles = {row.title: row for row in results.rows if row.label == label}
    tests = [one for one in results.tests() if one.first in titles]
    if not tests:
        return Finding(f"{label} against {baseline}: no test compares them.", "no verdict")
    by_verdict: dict[str, list[str]] = {}
    for one in tests:
        steps = titles[one.first].num_steps
        at = "" if steps is None else f" at {count(steps, 'step')}"
        said = f"{one.metric}{at}" + ("" if one.verdict == NOT_TOLD else f" ({one.text()})")
        by_verdict.setdefault(one.verdict, []).append(said)
    order = sorted(by_verdict, key=lambda verdict: verdict == NOT_TOLD)  # What was decided first.
    parts = [
        f"{verdict}{' from it' if verdict == NOT_TOLD else ''} by {', '.join(by_verdict[verdict])}" for verdict in order
    ]
    told = " and ".join(verdict for verdict in order if verdict != NOT_TOLD) or NOT_TOLD
    return Finding(f"{label} against {baseline}: {'; '.join(parts)}.", told)


def _named(titles: Sequence[str]) -> str:
    if len(titles) > NAMED:
        return f"{len(titles)} others"
    return " and ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)


def count(number: int, noun: str, plural: str = "s") -> str:
    """A number of things, with the word for one or for several."""
    return f"{number} {noun}{'' if number == 1 else plural}"
