"""Means, spread, differences and verdicts over seeds, and the table that is made from them."""

import csv

import numpy as np
import pytest
from scipy import stats

from melody_cm.comparison.ablation import over_seeds
from melody_cm.comparison.tables import markdown_table
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Results, Row, compare_rows
from melody_cm.evaluation.tables import csv_text

EMBEDDING = {
    "name": "logmel",
    "version": "1",
    "weights": "none",
    "sample_rate": 16000,
    "window": "1 s",
    "width": 32,
    "trained": False,
    "resampler": "soxr HQ",
}
VALUES = {"dual_path": [0.30, 0.32, 0.31], "unet1d": [0.40, 0.41, 0.42], "unet2d": [0.31, 0.30, 0.33]}


def score(metric, value, clips=16):
    distance = metric.startswith(("fad_", "kad_"))
    return Score(value, None, None, None, "", clips, clips, distance and clips < 64, EMBEDDING if distance else None)


def results_of(values, baseline="dual_path", clips=16, **metadata):
    """Results from the values of every (recipe, number of steps) by metric, one a seed; None: not measured."""
    count = max(len(numbers) for metrics in values.values() for numbers in metrics.values())
    rows = {
        seed: [
            Row(label, {key: score(key, numbers[seed], clips) for key, numbers in metrics.items()}, num_steps)
            for (label, num_steps), metrics in values.items()
        ]
        for seed in range(count)
    }
    merged = over_seeds(rows)
    facts = {"seeds": list(range(count)), "baseline": baseline, "embeddings": [EMBEDDING], **metadata}
    return Results("ablate", facts, merged, compare_rows(merged, baseline))


def ablation(values=VALUES, metric="velocity_mse", num_steps=None, **more):
    return results_of({(recipe, num_steps): {metric: numbers} for recipe, numbers in values.items()}, **more)


def test_mean_spread_and_paired_interval_are_those_of_numpy_and_scipy():
    results = ablation()
    row, pair = results.rows[1], results.differences[0]
    found = row.metrics["velocity_mse"]
    difference = np.subtract(VALUES["unet1d"], VALUES["dual_path"])
    assert (row.label, pair.first, pair.second, pair.n) == ("unet1d", "unet1d", "dual_path", 3)
    assert found.value == pytest.approx(np.mean(VALUES["unet1d"]))
    assert found.details["std"] == pytest.approx(np.std(VALUES["unet1d"], ddof=1))
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(VALUES["unet1d"], 0).confidence_interval(0.95))
    assert pair.difference == pytest.approx(difference.mean())
    assert (pair.low, pair.high) == pytest.approx(stats.ttest_1samp(difference, 0).confidence_interval(0.95))


def test_verdicts_follow_the_interval_and_the_metrics_direction():
    verdicts = {one.first: one.verdict for one in ablation().differences}
    assert verdicts == {"unet1d": "worse", "unet2d": "not distinguishable"}
    assert {one.first: one.verdict for one in ablation(metric="si_snri").differences}["unet1d"] == "better"


def test_a_single_seed_has_no_spread_and_no_verdict():
    one = ablation({name: numbers[:1] for name, numbers in VALUES.items()})
    assert one.differences == []
    assert [row.metrics["velocity_mse"].details for row in one.rows] == [{}] * 3
    assert "| unet1d |  | 0.4 |" in markdown_table(one)


def test_different_numbers_of_steps_are_compared_among_themselves():
    values = {
        (recipe, steps): {"fad_logmel": [base + steps + 0.001 * seed for seed in (0, 1)]}
        for recipe, base in (("linear", 0.0), ("uniform", 1.0))
        for steps in (5, 10)
    }
    found = results_of(values, baseline="linear").differences
    assert [one.difference for one in found] == pytest.approx([1.0, 1.0])
    assert [(one.first, one.second) for one in found] == [
        (f"uniform, {steps} steps", f"linear, {steps} steps") for steps in (5, 10)
    ]


def test_csv_and_markdown_say_the_same():
    rows = list(csv.DictReader(csv_text(ablation()).splitlines()))
    assert [row["label"] for row in rows] == list(VALUES)
    assert float(rows[1]["velocity_mse.seed 2"]) == 0.42
    assert rows[0]["velocity_mse.difference.verdict"] == ""
    assert rows[1]["velocity_mse.difference.verdict"] == "worse"
    text = markdown_table(ablation())
    assert "| recipe | steps | velocity_mse ↓ |" in text
    assert "| unet1d |  | 0.41 ± 0.01 (worse) |" in text
    assert "verdict against dual_path" in text


def test_the_notes_tell_how_many_clips_were_judged_and_what_that_is_worth():
    values = {("linear", 5): {"fad_logmel": [1.0]}, ("uniform", 5): {"fad_logmel": [2.0]}}
    text = markdown_table(results_of(values, baseline="linear", clips=20))
    assert "20 samples to the 20 test clips" in text
    assert "fewer than 64 clips, or clips of fewer than 12 pieces or prompts, on a side" in text
    assert "hand-made" in text
    assert "| linear | 5 | 1 † |" in text


def test_a_value_that_one_seed_lacks_stands_under_no_other_seed_and_is_paired_with_none():
    # What the baseline gave with seed 1 was not finite.
    lacking = ablation({**VALUES, "dual_path": [0.30, None, 0.31]})
    row = next(csv.DictReader(csv_text(lacking).splitlines()))
    assert [row.get(f"velocity_mse.seed {seed}") for seed in (0, 1, 2)] == ["0.3", "", "0.31"]
    assert lacking.differences[0].difference == pytest.approx((0.40 - 0.30 + 0.42 - 0.31) / 2)
    assert lacking.differences[0].n == 2
