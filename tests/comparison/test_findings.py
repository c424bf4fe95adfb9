"""What a report opens with, from hand-written rows, and how all was made in words."""

import re
from dataclasses import asdict, replace

import pytest
from test_ablation import results_of

from melody_cm.comparison.report.findings import cautions, findings, opening
from melody_cm.comparison.report.page import environment
from melody_cm.comparison.tables import leading_columns, per_cent
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Difference, Results, Row
from melody_cm.interfaces import EmbeddingIdentity

IDENTITY = asdict(EmbeddingIdentity("logmel", "1", "none", 16000, "1 s", 32, False))
PROMPTS = [f"prompt {place}" for place in range(8)]
METADATA = {"prompts": PROMPTS, "seeds": [0, 1], "seconds": 2.5, "embeddings": [IDENTITY], "size": "tiny"}


def score(value, few=False, **details):
    groups = {"generated": 8, "reference": 10}
    interval = (None, None, None) if few else (value, value - 1, value + 1)
    return Score(value, *interval, "", 16, 20, few, IDENTITY, details=details, groups=groups)


def row(label, fad, pace, passes=4, few=False, **facts):
    speed = {"times_real_time": pace, "times_real_time_range": [pace / 2, pace * 2], "steady": True}
    counted = {"total": {"batched": passes}, "closed_form": passes, "saving": 0.9}
    metrics = {"fad_logmel": score(fad, few), "kad_logmel": score(10 - fad)}
    metrics["text_correlation_logmel"] = score(0.5, excess=fad / 100, excess_low=-0.1, excess_high=1)
    return Row(label, metrics, 4, facts={"speed": speed, "passes": counted, **facts})


def told(first, second, metric, p):
    return Difference(f"{first}, 4 steps", f"{second}, 4 steps", metric, -1.0, -1.5, -0.5, 8, p, p)


def compared(*tests, few=False, null=False, **changes):
    rows = [row("a", 2.0, 1.0, few=few), row("b", 5.0, 20.0, passes=1, few=few), row("c", 4.0, 1.5, few=few)]
    if null:
        rows.append(row("a-null", 1.0, 50.0, null_of="a, 4 steps"))
    real = Row("real music", {"fad_logmel": score(0.5, few)})
    return Results("compare", METADATA | changes, [*rows, real], list(tests))


def test_the_opening_tells_size_corpus_and_n():
    assert opening(compared(corpus="my/music")) == (
        "3 systems, 8 prompts, 2 seeds, clips of 2.5 s. Size tiny. Corpus: music. Each row: 16 clips of 8 prompts, "
        "judged against 20 clips of 10 pieces."
    )


def test_a_finding_tells_which_of_the_others_are_decided():
    results = compared(told("a", "b", "fad_logmel", 0.01), told("a", "c", "fad_logmel", 0.5))
    judge, prompts, speed, passes = findings(results)
    assert judge.text == (
        "Nearest to real music by fad_logmel: a, 4 steps with 2 [1, 3]; real music: 0.5 [-0.5, 1.5]. Decided against "
        "b, 4 steps; not distinguishable from c, 4 steps."
    )
    assert judge.verdict == "partly decided"
    assert prompts.text.startswith(
        "Follows its prompts best by excess_logmel: b, 4 steps with 0.05. Its interval holds 0"
    )
    assert prompts.verdict == "no verdict"
    assert "b, 4 steps at 20 (10-40) times real time, 20 times as fast as a, 4 steps" in speed.text
    assert speed.verdict == "ranges part"
    assert "b, 4 steps makes a clip in 1 network pass, 90.0% fewer" in passes.text


@pytest.mark.parametrize(("low", "deaf"), [(0.4, True), (0.6, False)])
def test_without_an_embedding_of_texts_a_taggers_areas_tell_who_follows_prompts(low, deaf):
    results = compared()
    for place, one in enumerate(results.rows[:3]):
        own = one.metrics["fad_logmel"]
        del one.metrics["text_correlation_logmel"]
        one.metrics["prompt_auc_guitar_logmel"] = replace(own, value=0.99, corrected=0.99)
        area = {"value": 0.7 + 0.1 * place, "corrected": 0.7 + 0.1 * place, "low": low, "high": 0.95, "details": {}}
        one.metrics["prompt_auc_logmel"] = replace(own, **area)
    prompts = findings(results)[1].text
    assert prompts.startswith(f"Follows its prompts best by prompt_auc_logmel: {results.rows[2].title} with 0.9.")
    assert ("Its interval holds 0.5" in prompts) == deaf
    assert "prompt_auc_logmel ↑" in leading_columns(results)


def test_what_is_nearly_all_is_not_called_all():
    assert [per_cent(share) for share in (0.95, 0.9994, 1 - 1 / 3200, 1.0)] == ["95.0%", "99.9%", "99.97%", "100.0%"]


@pytest.mark.parametrize(("p", "verdict"), [(0.01, "decided"), (0.2, "not distinguishable")])
def test_a_verdict_comes_from_the_corrected_tests_alone(p, verdict):
    results = compared(told("a", "b", "fad_logmel", p), told("a", "c", "fad_logmel", p))
    assert findings(results)[0].verdict == verdict


def test_where_clips_are_too_few_for_one_distance_the_other_ranks():
    assert "by kad_logmel: b, 4 steps" in findings(compared(few=True))[0].text


def test_a_null_row_wins_nothing_and_is_told_apart():
    test = told("a", "a-null", "fad_logmel", 0.5)
    *others, null = findings(compared(test, null=True))
    assert not any("a-null" in one.text for one in others)
    assert null.text == "a, 4 steps against itself with other seeds: 0 of 1 test decided."
    assert null.verdict == "as it should be"
    false = compared(told("a", "a-null", "fad_logmel", 0.01), null=True)
    assert findings(false)[-1].verdict == "false alarm"


def test_tiny_models_few_prompts_and_busy_machines_are_warned_of():
    assert len(cautions(compared(size="paper"))) == 0
    tiny, few, busy = cautions(compared(prompts=PROMPTS[:7], probe={"steady": False}))
    assert tiny.startswith("Tiny models only prove")
    assert few.startswith("7 prompts, fewer than 8: there are no verdicts")
    assert busy.startswith("The machine was busy")


def test_an_ablation_speaks_of_recipes_by_their_names():
    values = {"dual_path": [0.30, 0.32, 0.31], "unet1d": [0.40, 0.41, 0.42]}
    results = results_of({(name, None): {"velocity_mse": numbers} for name, numbers in values.items()}, clips=64)
    (one,) = findings(results)
    assert one.text.startswith("unet1d against dual_path: worse by velocity_mse (0.1 [")
    assert one.verdict == "worse"
    assert opening(results) == "2 recipes with 3 seeds each; baseline: dual_path."


def test_how_it_was_made_is_told_in_words():
    machine = {"versions": {"melody_cm": "1", "torch": "2"}, "system": "Linux", "processor": "X", "cpu_cores": 2}
    machine |= {"threads": 1, "accelerators": ["H100"]}
    facts = {"machine": machine, "git_revision": "0123456789abcdef+changes", "created": "2026-01-02T03:04:05+00:00"}
    facts |= {"placement": {"device": "cuda", "precision": "bf16"}, "corpus": "procedural", "reference": "test"}
    page = str(environment().get_template("made.html").module.made(compared(**facts).metadata, False))
    made = dict(re.findall("<dt>(.*)</dt><dd>(.*)</dd>", page))
    assert made["Machine"] == "X with 2 cores, 1 thread; H100; Linux."
    assert made["Device"] == "All networks worked on cuda in bf16."
    assert made["Code"] == "melody_cm 1, revision 0123456789ab with changes; torch 2."
    assert made["Music"].startswith("Everything was trained on the procedural corpus and judged against its test split")
    assert "seeds 0, 1" in made["Clips"]
    assert made["Made"] == "2026-01-02 03:04:05 UTC"
