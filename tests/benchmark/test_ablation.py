import csv
import io

import numpy as np
import pytest
from scipy import stats

from melody_cm.benchmark.ablation import Ablation, Cell, verdict
from melody_cm.benchmark.ablation_table import csv_table, sheet

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


def ablation(values=VALUES, metric="velocity_mse", num_steps=None):
    cells = [
        Cell(recipe, seed, num_steps, {metric: value})
        for recipe, row in values.items()
        for seed, value in enumerate(row)
    ]
    return Ablation("dual_path", [0, 1, 2], cells, {"embedding": EMBEDDING, "clips": 16})


def test_mean_spread_and_paired_interval_are_those_of_numpy_and_scipy():
    entry = ablation().entries()[1]
    difference = np.subtract(VALUES["unet1d"], VALUES["dual_path"])
    low, high = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert entry.recipe == "unet1d"
    assert entry.mean == pytest.approx(np.mean(VALUES["unet1d"]))
    assert entry.std == pytest.approx(np.std(VALUES["unet1d"], ddof=1))
    assert entry.difference == pytest.approx(difference.mean())
    assert (entry.low, entry.high) == pytest.approx((low, high))


def test_verdicts_follow_the_interval_and_the_metrics_direction():
    verdicts = {entry.recipe: entry.verdict for entry in ablation().entries()}
    assert verdicts == {"dual_path": None, "unet1d": "worse", "unet2d": "not distinguishable"}
    assert {entry.recipe: entry.verdict for entry in ablation(metric="si_snri").entries()}["unet1d"] == "better"
    assert verdict(-1.0, -0.5, larger_is_better=False) == "better"
    assert verdict(-1.0, 0.5, larger_is_better=False) == "not distinguishable"


def test_a_single_seed_has_no_spread_and_no_verdict():
    one = Ablation("a", [7], [Cell("a", 7, None, {"x": 1.0}), Cell("b", 7, None, {"x": 2.0})], {})
    assert [(entry.std, entry.verdict, entry.difference) for entry in one.entries()] == [(None, None, None)] * 2


def test_cells_are_paired_by_seed_whatever_their_order():
    shuffled = ablation()
    shuffled.cells = list(reversed(shuffled.cells))
    expected = {entry.recipe: entry.difference for entry in ablation().entries()}
    assert {entry.recipe: entry.difference for entry in shuffled.entries()} == pytest.approx(expected, nan_ok=True)


def test_different_numbers_of_steps_are_compared_among_themselves():
    cells = [
        Cell(recipe, seed, steps, {"fad_logmel": base + steps + 0.001 * seed})
        for recipe, base in (("linear", 0.0), ("uniform", 1.0))
        for steps in (5, 10)
        for seed in (0, 1)
    ]
    differences = [entry.difference for entry in Ablation("linear", [0, 1], cells, {}).entries()]
    assert differences == [None, None, pytest.approx(1.0), pytest.approx(1.0)]


def test_csv_and_markdown_say_the_same():
    rows = list(csv.DictReader(io.StringIO(csv_table(ablation()))))
    assert [row["recipe"] for row in rows] == list(VALUES)
    assert float(rows[1]["seed_2"]) == 0.42
    assert rows[0]["difference"] == ""
    text = sheet(ablation()).markdown()
    assert "| unet1d |  | 0.41 ± 0.01 (worse) |" in text
    assert "hand-made" in text
    assert "16 clips are fewer than 64" in text


def test_the_notes_tell_how_many_clips_were_judged_and_not_how_many_were_asked_for():
    cells = [Cell(recipe, 0, 5, {"fad_logmel": 1.0}, clips=20) for recipe in ("linear", "uniform")]
    text = sheet(Ablation("linear", [0], cells, {"embedding": EMBEDDING, "clips": 64})).markdown()
    assert "20 samples to the 20 test clips" in text
    assert "20 clips are fewer than 64" in text


def test_a_value_that_one_seed_lacks_stands_under_no_other_seed():
    lacking = ablation()
    lacking.cells[1].metrics.clear()  # What the baseline gave with seed 1 was not finite.
    row = next(csv.DictReader(io.StringIO(csv_table(lacking))))
    assert [row[f"seed_{seed}"] for seed in (0, 1, 2)] == ["0.3", "", "0.31"]
