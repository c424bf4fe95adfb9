"""Intervals against closed forms and other libraries; verdicts on systems whose truth is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from melody_cm.evaluation.uncertainty import (
    LeftOut,
    bootstrap_interval,
    jackknife,
    mean_interval,
    student_interval,
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
    assert estimate == (2.0, 2.0, 2.0)


def test_the_interval_of_a_mean():
    x = np.arange(10.0)
    interval = mean_interval(x.sum(), (x**2).sum(), 10)
    assert interval == pytest.approx(stats.t.interval(0.95, 9, x.mean(), stats.sem(x)))
    assert mean_interval(1.0, 1.0, 1) == (None, None)


def test_the_bootstraps_interval_is_about_students():
    numbers = torch.randn(200).double()
    low, high = bootstrap_interval(numbers.tolist())
    assert (low, high) == pytest.approx(student_interval(numbers.tolist()), abs=0.02)
    expected = stats.ttest_1samp(numbers.numpy(), 0).confidence_interval()
    assert student_interval(numbers.tolist()) == pytest.approx((expected.low, expected.high))
    assert bootstrap_interval(numbers.tolist()) == (low, high)
    assert bootstrap_interval(numbers.tolist(), seed=1) != (low, high)


def test_equal_systems_are_rarely_called_different():
    wrong = 0
    for seed in range(200):
        first, second = torch.randn(2, 40, generator=torch.Generator().manual_seed(seed))
        low, high = bootstrap_interval((first - second).tolist(), seed=seed, resamples=1000)
        wrong += low > 0 or high < 0
    assert 0.01 <= wrong / 200 <= 0.11
