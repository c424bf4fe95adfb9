"""Intervals against closed forms and other libraries; coverage and false alarms where the truth is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from melody_cm.evaluation.frechet import frechet_distance, frechet_score
from melody_cm.evaluation.kernel import kernel_score
from melody_cm.evaluation.results import Row, compare_rows
from melody_cm.evaluation.statistics import EmbeddingStatistics
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
from melody_cm.interfaces import EmbeddingIdentity


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


# What follows asks 200 contests each whose truth is known.
CONTESTS = 200


def layout(generator, prompts, takes, of_prompts, of_takes):
    """Numbers (prompts, takes) around 0."""
    return (
        of_prompts * generator.normal(size=(prompts, 1))
        + of_takes * generator.normal(size=(1, takes))
        + generator.normal(size=(prompts, takes))
    )


def named(x):
    return {f"prompt {p}/take {t}": value for p, row in enumerate(x.tolist()) for t, value in enumerate(row)}


@pytest.mark.parametrize(
    ("prompts", "takes", "of_prompts", "of_takes"),
    [(8, 3, 0.5, 0.0), (24, 3, 0.5, 0.0), (16, 4, 0.0, 0.0), (24, 3, 3.0, 0.0), (24, 3, 0.5, 0.2), (24, 3, 0.1, 2.0)],
)
def test_the_interval_of_a_mean_over_prompts_and_takes_holds_the_truth(prompts, takes, of_prompts, of_takes):
    """Few prompts; a system deaf to its prompts; one whose prompts differ much; takes that have a luck in common."""
    generator, held = np.random.default_rng(prompts + takes), 0
    for _ in range(CONTESTS):
        mean, parts = two_way(named(layout(generator, prompts, takes, of_prompts, of_takes)))
        low, high, _ = student(mean, parts)
        held += low <= 0 <= high
    assert held >= 0.92 * CONTESTS


def test_identical_systems_are_called_different_in_few_families():
    """Five rows of one system with two measures each: 20 tests a family."""
    alarms, uncorrected = 0, 0
    generator = np.random.default_rng(1)
    for _ in range(CONTESTS):
        prompts = generator.normal(size=(2, 24, 1))  # What is hard is hard for all.
        rows = []
        for label in range(5):
            samples = {f"fad_{key}": named(prompts[key] + layout(generator, 24, 3, 0.3, 0.0)) for key in range(2)}
            rows.append(Row(str(label), {}, 1, samples))
        differences = compare_rows(rows, fewest=8)
        assert len(differences) == 20
        alarms += any(one.verdict != "not distinguishable" for one in differences)
        uncorrected += any(one.p < 0.05 for one in differences)
    assert alarms <= 0.06 * CONTESTS
    assert uncorrected > 0.2 * CONTESTS  # The correction is needed.


def test_different_systems_are_told_apart():
    generator = np.random.default_rng(2)
    rows = [Row(str(label), {}, 1, {"fad_x": named(layout(generator, 24, 3, 0.3, 0.0) + label)}) for label in range(2)]
    (one,) = compare_rows(rows, fewest=8)
    assert (one.verdict, one.n) == ("better", 24)
    assert (
        compare_rows(
            [Row(row.label, {}, 1, {"fad_x": dict(list(row.samples["fad_x"].items())[:21])}) for row in rows], fewest=8
        )
        == []
    )


WIDTH = 6
IDENTITY = EmbeddingIdentity("toy", "1", "none", 16000, "1 s", WIDTH, True)
SCALE, SHIFT = torch.linspace(1.0, 0.3, WIDTH).double(), torch.tensor([0.7] + [0.0] * (WIDTH - 1)).double()


def side(generator, name, groups, each, common, scale=1.0, shift=0.0):
    """Clips of 4 frames; `common` is the share of their variance that those of a piece or prompt have in common."""

    def normal(*shape):
        return torch.randn(*shape, WIDTH, generator=generator, dtype=torch.float64)

    x = common**0.5 * normal(groups, 1, 1) + 0.3**0.5 * normal(groups, each, 1)
    x = (x + (0.7 - common) ** 0.5 * normal(groups, each, 4)) * SCALE * scale + SHIFT * shift
    statistics = EmbeddingStatistics.empty(WIDTH)
    statistics.add(x.flatten(0, 1), [f"{name} {group}" for group in range(groups) for _ in range(each)])
    return statistics


TRUTH = frechet_distance(SHIFT, torch.diag((1.3 * SCALE) ** 2), 0 * SHIFT, torch.diag(SCALE**2))


@pytest.mark.parametrize(
    ("pieces", "prompts", "deaf"),
    [
        (10, 24, False),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((25, 24, False), (25, 10, False), (25, 24, True))),
    ],
)
def test_the_interval_of_a_distance_holds_the_truth(pieces, prompts, deaf):
    """A reference of few pieces, few prompts x seeds, a system that is deaf to its prompts."""
    held = 0
    for contest in range(CONTESTS):
        generator = torch.Generator().manual_seed(contest)
        real = side(generator, f"piece {contest}", pieces, 10, 0.4)
        made = side(generator, f"prompt {contest}", prompts, 3, 0.0 if deaf else 0.3, 1.3, 1.0)
        score = frechet_score(made, real, IDENTITY)
        held += score.low <= TRUTH <= score.high
        assert score.groups == {"generated": prompts, "reference": pieces}
    assert held >= 0.92 * CONTESTS


@pytest.mark.slow
def test_distances_of_identical_systems_are_called_different_in_few_families():
    """Three rows against the same reference: the Frechet and the kernel distance, 6 tests a family."""
    alarms = 0
    for contest in range(CONTESTS):
        generator = torch.Generator().manual_seed(contest)
        real = side(generator, "piece", 25, 8, 0.4)
        rows = []
        for label in range(3):
            made = side(generator, "prompt", 24, 3, 0.3, 1.3, 1.0)
            scores = {"fad_toy": frechet_score(made, real, IDENTITY), "kad_toy": kernel_score(made, real, IDENTITY)}
            rows.append(Row(str(label), scores, 1))
        differences = compare_rows(rows, fewest=8)
        assert len(differences) == 6
        alarms += any(one.verdict != "not distinguishable" for one in differences)
    assert alarms <= 0.06 * CONTESTS


def test_a_system_that_is_farther_from_the_reference_is_worse():
    generator = torch.Generator().manual_seed(0)
    real = side(generator, "piece", 25, 8, 0.2)
    made = [side(generator, "prompt", 24, 3, 0.2, 1.0, shift) for shift in (0.0, 2.0)]
    rows = [Row(str(place), {"fad_toy": frechet_score(one, real, IDENTITY)}, 1) for place, one in enumerate(made)]
    (found,) = compare_rows(rows, fewest=8)
    assert (found.verdict, found.n) == ("better", 24)
    apart = [row.metrics["fad_toy"] for row in rows]
    assert found.difference == pytest.approx(apart[0].corrected - apart[1].corrected)
    # In pairs more is told than by the two intervals: the reference is the same.
    assert found.high - found.low < sum(one.high - one.low for one in apart)
