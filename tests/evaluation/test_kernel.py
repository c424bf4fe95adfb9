"""The kernel distance against a slow double loop; few and many clips, and the interval."""

import math

import numpy as np
import pytest
import torch

from melody_cm.evaluation import EmbeddingStatistics, kernel_score
from melody_cm.evaluation.kernel import kernel_distance, median_distance
from melody_cm.evaluation.statistics import clip_key
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("test", "1", "none", 16000, "any", width, False)


def ids(count, prefix="clip"):
    return [f"{prefix}{index}" for index in range(count)]


def slow_distance(x, y):
    """Pair by pair, as the paper writes it."""
    distances = sorted(math.dist(y[i], y[j]) for i in range(len(y)) for j in range(i))
    bandwidth = distances[(len(distances) - 1) // 2]

    def kernel(a, b):
        return math.exp(-(math.dist(a, b) ** 2) / (2 * bandwidth**2))

    within = [
        sum(kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return 100 * (sum(within) - 2 * across)


def distance(x, y, bandwidth=None):
    """The distance of two sets of vectors without groups."""
    x, y = x.double(), y.double()
    groups = tuple(torch.zeros(len(side), dtype=torch.int64) for side in (x, y))
    return kernel_distance(x, y, bandwidth or median_distance(y), groups, 1)[0]


def test_equals_a_double_loop_over_all_pairs():
    x, y = torch.randn(13, 5).double() + 0.3, torch.randn(10, 5).double()
    assert distance(x, y) == pytest.approx(slow_distance(x.tolist(), y.tolist()), rel=1e-10)


def test_a_far_origin_changes_nothing():
    x, y = torch.randn(40, 5).double() + 0.3, torch.randn(50, 5).double()
    assert distance(x + 1e7, y + 1e7) == pytest.approx(distance(x, y), abs=1e-4)


def test_it_is_unbiased_for_few_clips():
    values = [distance(torch.randn(6, 3), torch.randn(6, 3), bandwidth=2.0) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)
    assert np.std(values) < 12
    assert min(values) < -1


def test_equal_clips_have_no_bandwidth():
    with pytest.raises(ValueError, match="most of the 5 reference clips are equal"):
        median_distance(torch.ones(5, 3).double())


def statistics_of(clips, prefix="clip", names=None, **sizes):
    made = EmbeddingStatistics.empty(clips.shape[2], **sizes)
    made.add(clips, names or ids(len(clips), prefix))
    return made


def score_of(generated, reference, **sizes):
    sides = statistics_of(generated, **sizes), statistics_of(reference, "real", **sizes)
    return kernel_score(*sides, identity(generated.shape[2]))


def test_each_clip_counts_as_the_mean_of_its_frames():
    generated, reference = torch.randn(30, 4, 3) + 0.5, torch.randn(20, 7, 3)
    score = score_of(generated, reference)
    expected = slow_distance(generated.double().mean(1).tolist(), reference.double().mean(1).tolist())
    assert score.value == pytest.approx(expected, rel=1e-9)
    assert (score.n_generated, score.n_reference, score.too_few) == (30, 20, False)
    assert score.low < score.value < score.high


def test_more_clips_than_fit_are_sampled_and_said():
    generated, reference = torch.randn(200, 1, 3), torch.randn(100, 1, 3)
    score = score_of(generated, reference, max_clips=50)
    kept = sorted(range(200), key=lambda index: clip_key(f"clip{index}"))[:50]
    theirs = sorted(range(100), key=lambda index: clip_key(f"real{index}"))[:50]
    assert score.value == pytest.approx(distance(generated[kept, 0], reference[theirs, 0]), rel=1e-9)
    assert (score.n_generated, score.n_reference) == (50, 50)
    assert score.warnings == ["a sample of 50 of 200 generated clips", "a sample of 50 of 100 reference clips"]


def test_the_interval_covers_the_truth():
    """Against the mean of many estimates, which is the truth because each is unbiased; the bandwidth varies little."""
    scores = []
    for seed in range(40):
        torch.manual_seed(seed)
        scores.append(score_of(torch.randn(120, 1, 4) + 0.5, torch.randn(100, 1, 4)))
    truth = np.mean([score.value for score in scores])
    covered = np.mean([score.low <= truth <= score.high for score in scores])
    assert 0.9 <= covered <= 1


def leave_group_out(generated, reference, num_groups, bandwidth):
    full = distance(generated, reference, bandwidth)
    corrected, variance = full, 0.0
    for side, (vectors, prefix) in enumerate(((generated, "clip"), (reference, "real"))):
        groups = torch.tensor([clip_key(f"{prefix}{index}") % num_groups for index in range(len(vectors))])
        pseudo, estimate = [], 0.0
        for group in sorted(set(groups.tolist())):
            sides = [generated, reference]
            sides[side] = vectors[groups != group]
            ratio = len(vectors) / int((groups == group).sum())
            without = distance(*sides, bandwidth)
            pseudo.append((ratio * full - (ratio - 1) * without, ratio - 1))
            estimate += full - (1 - 1 / ratio) * without
        corrected += estimate - full
        variance += sum((value - estimate) ** 2 / weight for value, weight in pseudo) / len(pseudo)
    return corrected, variance


def test_the_interval_is_that_of_a_slow_jackknife():
    generated, reference = torch.randn(40, 1, 3) + 0.5, torch.randn(30, 1, 3)
    score = score_of(generated, reference, num_groups=6)
    middle, variance = leave_group_out(generated[:, 0], reference[:, 0], 6, score.details["bandwidth"])
    assert score.corrected == pytest.approx(middle, rel=1e-8)
    half = middle - score.low
    assert 1.96 < half / math.sqrt(variance) < 2.58
    assert score.high == pytest.approx(middle + half + half**2 / (4 * max(middle, half)))


def test_clips_of_one_piece_bias_the_value_but_not_the_corrected_one():
    values, corrected = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        sides = []
        for real in (False, True):
            clips = (torch.randn(40, 1, 4) + 0.5 * torch.randn(40, 4, 4)).flatten(0, 1)[:, None]
            sides.append(statistics_of(clips, names=[f"{seed} {real} {index // 4}" for index in range(160)]))
        score = kernel_score(*sides, identity(4))
        values.append(score.value)
        corrected.append(score.corrected)
    assert np.mean(values) > 4 * np.std(values) / math.sqrt(40)
    assert abs(np.mean(corrected)) < 4 * np.std(corrected) / math.sqrt(40)


def test_few_clips_are_said_and_broken_ones_counted():
    generated, reference = torch.randn(7, 1, 8), torch.randn(20, 1, 8)
    clean = score_of(generated, reference)
    assert (clean.too_few, clean.corrected) == (True, None)
    assert not score_of(torch.randn(8, 1, 8), reference).too_few
    ours = statistics_of(torch.cat([generated, torch.full((1, 1, 8), torch.nan)]))
    theirs = statistics_of(reference, "real")
    theirs.drop("silent")
    score = kernel_score(ours, theirs, identity(8))
    assert (score.value, score.low) == (clean.value, clean.low)
    assert score.dropped == {"generated": {"not finite": 1}, "reference": {"silent": 1}}


def test_a_side_without_two_clips_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"1 usable clip\(s\) of generated audio"):
        score_of(torch.randn(1, 1, 3), torch.randn(4, 1, 3))
