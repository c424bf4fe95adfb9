"""The Frechet distance against closed forms, scipy and its known bias; the score against one pass over all frames."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.linalg
import torch

from melody_cm.evaluation import (
    EmbeddingStatistics,
    Gaussian,
    clip_distance,
    frechet_distance,
    frechet_infinity,
    frechet_score,
)
from melody_cm.evaluation.frechet import fewest_groups, raw_distances
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("test", "1", "none", 16000, "any", width, False)


def eye(d):
    return torch.eye(d, dtype=torch.float64)


def diagonal(*values):
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def mean(*values):
    return torch.tensor(values, dtype=torch.float64)


def ids(count, prefix="clip"):
    return [f"{prefix}{index}" for index in range(count)]


CLOSED_FORMS = [
    (mean(1, 2, 3), eye(3), mean(1, 2, 3), eye(3), 0.0),
    (mean(0, 0, 0), eye(3), mean(3, 4, 0), eye(3), 25.0),
    (mean(0, 0, 0), eye(3), mean(0, 0, 0), 4 * eye(3), 3.0),
    (mean(0, 0, 0), diagonal(1, 4, 9), mean(0, 0, 0), diagonal(4, 9, 16), 3.0),
    (mean(0, 0), diagonal(1, 0), mean(0, 0), diagonal(0, 1), 2.0),
    (mean(0), diagonal(1), mean(2), diagonal(9), 8.0),
    (mean(0, 0, 0, 0), eye(4), mean(1, 1, 1, 1), 4 * eye(4), 8.0),
    (mean(0, 0), mean(2, 1, 1, 2).view(2, 2), mean(0, 0), mean(2, -1, -1, 2).view(2, 2), 8 - 4 * math.sqrt(3)),
    (mean(0, 0), mean(4, 2, 2, 3).view(2, 2), mean(0, 0), diagonal(1, 9), 3.1478430924),
]


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_closed_forms_in_both_directions(case):
    mean_a, cov_a, mean_b, cov_b, expected = case
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(mean_b, cov_b, mean_a, cov_a) == pytest.approx(expected, abs=1e-9)


def gaussian(seed, d=6, n=50):
    frames = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    frames = frames @ torch.randn(d, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return Gaussian(frames.mean(0), torch.cov(frames.T))


def test_equals_the_matrix_square_root_of_scipy():
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(0), gaussian(10)
    root = scipy.linalg.sqrtm(cov_a.numpy() @ cov_b.numpy()).real
    expected = ((mean_a - mean_b) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected, rel=1e-9)


def test_a_shared_rotation_changes_nothing():
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(0), gaussian(10)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    turned = frechet_distance(turn @ mean_a, turn @ cov_a @ turn.T, turn @ mean_b, turn @ cov_b @ turn.T)
    assert turned == pytest.approx(frechet_distance(mean_a, cov_a, mean_b, cov_b), rel=1e-9)


def test_fewer_frames_than_dimensions_stay_real_and_finite():
    first, second = gaussian(0, d=128, n=20), gaussian(10, d=128, n=20)
    (mean_a, cov_a), (mean_b, cov_b) = first, second
    assert 0 <= frechet_distance(*first, *first) < 1e-3
    nuclear = torch.linalg.svdvals(_factor(cov_a).T @ _factor(cov_b)).sum()
    expected = ((mean_a - mean_b) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * nuclear
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected.item(), rel=1e-6)


def test_rank_deficient_unit_variance_against_itself_is_0():
    frames = torch.randn(20, 128, dtype=torch.float64)
    itself = Gaussian(frames.mean(0), torch.cov(frames.T))
    assert 0 <= frechet_distance(*itself, *itself) <= 1e-4
    assert raw_distances(itself, [itself]).item() >= -1e-4


def _factor(cov):
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp_min(0).sqrt()


def statistics_of(clips, prefix="clip", num_groups=20):
    made = EmbeddingStatistics.empty(clips.shape[2], num_groups)
    made.add(clips, ids(len(clips), prefix))
    return made


def score_of(generated, reference, num_groups=20):
    """The score of two sets of clips; the reference may be statistics too."""
    if isinstance(reference, torch.Tensor):
        reference = statistics_of(reference, "real", num_groups)
    return frechet_score(statistics_of(generated, num_groups=num_groups), reference, identity(generated.shape[2]))


def pooled(clips):
    frames = clips.double().flatten(0, 1)
    return Gaussian(frames.mean(0), torch.cov(frames.T))


def test_the_score_is_the_distance_of_the_pooled_frames():
    generated, reference = torch.randn(7, 5, 3), torch.randn(9, 4, 3) * 2 + 1
    score = score_of(generated, reference)
    assert score.value == pytest.approx(frechet_distance(*pooled(generated), *pooled(reference)), rel=1e-9)
    assert (score.n_generated, score.n_reference) == (7, 9)
    assert score.embedding == asdict(identity(3))


def test_audio_against_itself_is_at_distance_0():
    frames = torch.randn(10, 20, 4)
    score = score_of(frames, frames)
    assert score.value == pytest.approx(0, abs=1e-9)
    assert score.details["raw"] == pytest.approx(0, abs=1e-9)


def leave_one_group_out(generated, reference, num_groups):
    """The jackknife in slow loops over clips, straight from Busing, Meijer and van der Leeden (1999)."""
    from melody_cm.evaluation.statistics import clip_key

    sides = [(generated, ids(len(generated))), (reference, ids(len(reference), "real"))]
    full = frechet_distance(*pooled(generated), *pooled(reference))
    corrected, variance = full, 0.0
    for side, (clips, names) in enumerate(sides):
        groups = torch.tensor([clip_key(name) % num_groups for name in names])
        pseudo, weighted, weights = [], [], []
        for group in sorted(set(groups.tolist())):
            others = [generated, reference]
            others[side] = clips[groups != group]
            size, n = int((groups == group).sum()), len(clips)
            without = frechet_distance(*pooled(others[0]), *pooled(others[1]))
            pseudo.append(n / size * full - (n / size - 1) * without)
            weighted.append((1 - size / n) * without)
            weights.append(n / size - 1)
        estimate = len(pseudo) * full - sum(weighted)
        corrected += estimate - full
        variance += sum((p - estimate) ** 2 / w for p, w in zip(pseudo, weights, strict=True)) / len(pseudo)
    return corrected, variance


def test_the_corrected_value_and_its_interval_are_those_of_a_slow_jackknife():
    generated, reference = torch.randn(60, 2, 3), torch.randn(40, 2, 3) + 0.5
    score = score_of(generated, reference, 6)
    corrected, variance = leave_one_group_out(generated, reference, 6)
    assert score.corrected == pytest.approx(corrected, rel=1e-8)
    half = corrected - score.low
    assert 1.96 < half / math.sqrt(variance) < 2.58  # Student's 97.5 % point for infinitely many and for 5 degrees.
    # Above, as far as the interval of the square root where that is within its half width.
    assert score.high == pytest.approx(corrected + half + half**2 / (4 * max(corrected, half)))
    root = math.sqrt(max(corrected, half)) + half / (2 * math.sqrt(max(corrected, half)))
    assert score.high == pytest.approx(root**2 + min(corrected - half, 0))
    sides = [statistics_of(generated, num_groups=6), statistics_of(reference, "real", num_groups=6)]
    squares = [value**2 for side in score.deviations.values() for value in side.values()]
    assert sum(squares) == pytest.approx(variance)
    assert [len(side) for side in score.deviations.values()] == [len(side.filled()) for side in sides]


@pytest.mark.parametrize(("clips", "too_few"), [(7, True), (8, False)])
def test_too_few_counts_clips_not_frames_on_either_side(clips, too_few):
    few, many = torch.randn(clips, 10, 3), torch.randn(20, 10, 3)
    for score in (score_of(few, many), score_of(many, few)):
        assert score.too_few is too_few
        assert (score.corrected is None) is (score.low is None) is (score.high is None) is too_few
        assert bool(score.warnings) is too_few
        assert score.value > 0


@pytest.mark.parametrize(("pieces", "too_few"), [(7, True), (8, False)])
def test_too_few_counts_pieces_and_not_the_clips_that_they_are_cut_into(pieces, too_few):
    many, few = statistics_of(torch.randn(40, 2, 3)), EmbeddingStatistics.empty(3)
    few.add(torch.randn(40, 2, 3), [f"piece {index % pieces}" for index in range(40)])
    score = frechet_score(few, many, identity(3))
    assert (score.too_few, score.groups) == (too_few, {"generated": pieces, "reference": 40})
    assert [fewest_groups(width) for width in (3, 32, 64, 128, 512)] == [8, 12, 32, 91, 725]


def test_a_non_finite_clip_is_left_out_and_counted():
    generated, reference = torch.randn(8, 5, 3), torch.randn(9, 4, 3)
    clean = score_of(generated, reference)
    broken = torch.cat([generated, torch.full((1, 5, 3), float("nan")), torch.full((1, 5, 3), float("inf"))])
    ours, theirs = statistics_of(broken), statistics_of(reference, "real")
    theirs.drop("silent")
    ours.drop("bored")
    score = frechet_score(ours, theirs, identity(3))
    assert (score.value, score.corrected, score.low) == (clean.value, clean.corrected, clean.low)
    assert score.n_generated == 8
    assert score.dropped == {"generated": {"not finite": 2, "bored": 1}, "reference": {"silent": 1}}


def test_statistics_of_another_program_bound_the_generated_side_alone():
    score = score_of(torch.randn(50, 2, 3), Gaussian(torch.zeros(3).double(), eye(3)))
    assert score.n_reference is None
    assert score.low < score.corrected < score.high
    assert "only the generated side" in score.warnings[0]
    with pytest.raises(ValueError, match="statistics of width 2, but test has 3"):
        score_of(torch.randn(50, 2, 3), Gaussian(torch.zeros(2).double(), eye(2)))
    with pytest.raises(ValueError, match=r"0 usable frame.* of generated audio"):
        score_of(torch.randn(0, 2, 3), torch.randn(4, 5, 3))


def bias_of_equal_sources(d, n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randn(count, d, generator=generator, dtype=torch.float64) for count in (n, m)]
    return frechet_distance(*[part for side in sides for part in (side.mean(0), torch.cov(side.T))])


def test_the_bias_is_what_theory_says():
    distances = [bias_of_equal_sources(128, 2000, 20000, seed) for seed in range(5)]
    assert np.mean(distances) == pytest.approx(2.341, rel=0.05)


def test_extrapolation_removes_the_bias_that_few_clips_have():
    reference = torch.randn(20000, 128, dtype=torch.float64)
    sums = statistics_of(torch.randn(5000, 1, 128, dtype=torch.float64))
    theirs = Gaussian(reference.mean(0), torch.cov(reference.T))
    assert frechet_distance(*sums.gaussian(), *theirs) > 0.9
    # What stays is the bias of the reference's own 20000 clips.
    assert frechet_infinity(sums, theirs) == pytest.approx(0.213, abs=0.1)


def test_extrapolation_is_repeatable_and_needs_groups():
    sums, reference = statistics_of(torch.randn(400, 1, 4, dtype=torch.float64)), gaussian(0, d=4)
    assert frechet_infinity(sums, reference) == frechet_infinity(sums, reference)
    assert frechet_infinity(sums, reference) != frechet_infinity(sums, reference, seed=1)
    assert frechet_infinity(statistics_of(torch.randn(1, 1, 4, dtype=torch.float64)), reference) is None


@pytest.mark.slow
def test_the_interval_covers_the_truth():
    """d = 16, n = 400 of N(m, I) against exact N(0, I), |m|^2 = 0.64: sec. 8's experiment."""
    shift, covered, corrected, plain = 0.2 * torch.ones(16).double(), 0, [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        clips = torch.randn(400, 1, 16, generator=generator, dtype=torch.float64) + shift
        score = score_of(clips, Gaussian(torch.zeros(16).double(), eye(16)))
        covered += score.low <= 0.64 <= score.high
        corrected.append(score.corrected)
        plain.append(score.value)
    assert np.mean(corrected) == pytest.approx(0.640, abs=0.05)
    assert np.mean(plain) == pytest.approx(0.857, abs=0.05)
    assert covered / 40 >= 0.85


def test_both_sides_are_corrected_and_covered():
    truth, covered, corrected = 8 * 0.3**2, 0, []
    for seed in range(40):
        torch.manual_seed(seed)
        score = score_of(torch.randn(200, 1, 8) + 0.3, torch.randn(150, 1, 8))
        covered += score.low <= truth <= score.high
        corrected.append(score.corrected)
    assert np.mean(corrected) == pytest.approx(truth, abs=0.05)
    assert 0.85 <= covered / 40 < 1


def test_frames_of_one_clip_do_not_make_the_interval_narrower():
    clips = torch.randn(100, 1, 4)
    repeated = clips.expand(-1, 10, -1)
    reference = Gaussian(torch.zeros(4).double(), eye(4))
    widths = []
    for embeddings in (clips, repeated):
        score = score_of(embeddings, reference)
        widths.append(score.high - score.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


@pytest.mark.parametrize("frames", [2, 5, 30])
def test_the_distance_of_one_clip_is_that_of_its_own_gaussian(frames):
    reference = gaussian(3, d=8)
    clip = torch.randn(frames, 8)
    expected = frechet_distance(clip.double().mean(0), torch.cov(clip.double().T), *reference)
    assert clip_distance(clip, reference) == pytest.approx(expected, rel=1e-6)


def test_a_clip_of_one_frame_has_no_distance():
    with pytest.raises(ValueError, match="1 frame"):
        clip_distance(torch.randn(1, 3), gaussian(0, d=3))


def test_too_few_clips_still_bound_the_plain_value_at_their_n():
    generator = torch.Generator().manual_seed(0)
    width, values, covered = 24, [], []

    def side(shift):
        statistics = EmbeddingStatistics.empty(width)
        names = [str(number) for number in torch.randint(10**9, (30,), generator=generator).tolist()]
        statistics.add(torch.randn(30, 1, width, generator=generator) + shift, names)
        return statistics

    scores = [frechet_score(side(0.2), side(0.0), identity(width)) for _ in range(100)]
    expected = sum(score.value for score in scores) / 100
    for score in scores:
        assert (score.too_few, score.corrected, score.low) == (True, None, None)
        covered.append(score.details["plain_low"] <= expected <= score.details["plain_high"])
        values.append(score.details["plain_high"] - score.details["plain_low"])
    assert sum(covered) >= 93
    spread = torch.tensor([score.value for score in scores]).std().item()
    assert sum(values) / 100 < 3 * 3.92 * spread
