"""Intervals against closed forms and other libraries; how often they hold the truth: test_coverage.py."""

import numpy as np
import pytest
import torch
from scipy import stats

from melody_cm.evaluation.uncertainty import (
    LeftOut,
    Part,
    holm,
    interval_of_sums,
    jackknife,
    mean_interval,
    mean_parts,
    student,
    two_way,
)


def test_the_jackknife_of_a_mean_is_students_interval():
    x = torch.randn(30).double()
    without = (x.sum() - x) / 29
    estimate = jackknife(x.mean().item(), [LeftOut(without, torch.ones(30, dtype=torch.int64))])
    expected = stats.t.interval(0.95, 29, x.mean().item(), stats.sem(x.numpy()))
    assert estimate.corrected == pytest.approx(x.mean().item())
    assert (estimate.low, estimate.high) == pytest.approx(expected)


def test_the_jackknife_removes_the_bias_of_a_variance():
    x = torch.randn(12).double()
    keep = ~torch.eye(12, dtype=torch.bool)
    without = torch.stack([x[row].var(correction=0) for row in keep])
    estimate = jackknife(x.var(correction=0).item(), [LeftOut(without, torch.ones(12, dtype=torch.int64))])
    assert estimate.corrected == pytest.approx(x.var().item())


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [1, 2, 5, 12]])
def test_groups_of_any_size_remove_a_bias_of_one_over_n(sizes):
    n, bias = sum(sizes), 3.0
    without = torch.tensor([1.0 + bias / (n - size) for size in sizes]).double()
    assert jackknife(1.0 + bias / n, [LeftOut(without, torch.tensor(sizes))]).corrected == pytest.approx(1.0)


def test_two_samples_give_welchs_interval():
    x, y = torch.randn(12).double(), 3 * torch.randn(20).double()
    sides = [
        LeftOut((x.sum() - x) / 11 - y.mean(), torch.ones(12, dtype=torch.int64)),
        LeftOut(x.mean() - (y.sum() - y) / 19, torch.ones(20, dtype=torch.int64)),
    ]
    estimate = jackknife((x.mean() - y.mean()).item(), sides)
    expected = stats.ttest_ind(x.numpy(), y.numpy(), equal_var=False).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_what_never_varies_is_certain():
    estimate = jackknife(2.0, [LeftOut(torch.full((5,), 2.0).double(), torch.ones(5, dtype=torch.int64))])
    assert estimate[:3] == (2.0, 2.0, 2.0)
    assert student(2.0, [Part(0.0, 4)]).p == 0
    assert student(0.0, [Part(0.0, 4)]).p == 1


def test_the_deviations_of_two_estimates_from_the_same_groups_tell_their_difference():
    x, y = torch.randn(2, 12).double()
    sides = [LeftOut((values.sum() - values) / 11, torch.ones(12, dtype=torch.int64)) for values in (x, y)]
    first, second = (jackknife(v.mean().item(), [side]) for v, side in zip((x, y), sides, strict=True))
    squares = (first.deviations[0] - second.deviations[0]).square().sum().item()
    assert squares == pytest.approx((x - y).var().item() / 12)


def test_the_interval_of_a_mean_and_its_p_value():
    x = np.arange(10.0) - 3
    expected = stats.ttest_1samp(x, 0)
    interval = stats.t.interval(0.95, 9, x.mean(), stats.sem(x))
    assert mean_interval(x.tolist()) == pytest.approx(interval)
    assert interval_of_sums(x.sum(), (x**2).sum(), 10) == pytest.approx(interval)
    assert student(x.mean(), mean_parts(x.tolist())).p == pytest.approx(expected.pvalue)
    assert mean_interval([1.0]) == interval_of_sums(1.0, 1.0, 1) == (None, None)
    assert mean_interval([1.0, 2.0], ["a", "a"]) == (None, None)


def test_groups_of_equal_size_give_the_interval_of_their_means():
    x = np.random.default_rng(0).normal(size=(6, 3)) + np.arange(6)[:, None]
    groups = np.repeat(np.arange(6), 3).tolist()
    means = x.mean(1)
    assert mean_interval(x.ravel().tolist(), groups) == pytest.approx(
        stats.t.interval(0.95, 5, means.mean(), stats.sem(means))
    )


def test_groups_of_unequal_size_give_the_cluster_robust_variance():
    x, groups = np.random.default_rng(0).normal(size=10), np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])
    sums = [(x[groups == group] - x.mean()).sum() for group in range(4)]
    (part,) = mean_parts(x.tolist(), groups.tolist())
    assert part == (pytest.approx(4 / 3 * np.square(sums).sum() / 100), 3)


@pytest.mark.parametrize("common", [0.0, 3.0])
def test_groups_and_members_give_the_variance_components_of_the_two_way_layout(common):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(7, 4)) + generator.normal(size=(7, 1)) + common * generator.normal(size=(1, 4))
    rows, columns = x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    of_rows = 4 * np.square(rows - x.mean()).sum() / 6
    of_columns = 7 * np.square(columns - x.mean()).sum() / 3
    rest = np.square(x - rows - columns + x.mean()).sum() / 18
    mean, parts = two_way({f"prompt {p}/take {t}": x[p, t] for p in range(7) for t in range(4)})
    assert mean == pytest.approx(x.mean())
    assert parts[0] == (pytest.approx(of_rows / 28), 6)
    assert parts[1] == (pytest.approx(max(of_columns - rest, 0) / 28), 3)
    assert two_way({f"seed {p}": x[p, 0] for p in range(7)})[1] == mean_parts(x[:, 0].tolist())


def test_holms_correction_is_that_of_the_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    # Alone, a p value stays what it is.
    assert holm([0.03]) == [0.03]
