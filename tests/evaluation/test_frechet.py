"""The Frechet distance against closed forms and scipy; its sums against one pass over all frames."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.linalg
import torch

from melody_cm.evaluation import FrechetDistance, frechet_distance
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("test", "1", "none", 16000, "any", width, False)


def eye(d):
    return torch.eye(d, dtype=torch.float64)


def diagonal(*values):
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def mean(*values):
    return torch.tensor(values, dtype=torch.float64)


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
    return frames.mean(0), torch.cov(frames.T)


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
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(0, d=128, n=20), gaussian(10, d=128, n=20)
    assert 0 <= frechet_distance(mean_a, cov_a, mean_a, cov_a) < 1e-3
    nuclear = torch.linalg.svdvals(_factor(cov_a).T @ _factor(cov_b)).sum()
    expected = ((mean_a - mean_b) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * nuclear
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected.item(), rel=1e-6)


def _factor(cov):
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp_min(0).sqrt()


def filled(generated, reference, width):
    metric = FrechetDistance(identity(width))
    metric.update(generated, real=False)
    metric.update(reference, real=True)
    return metric


def test_the_metric_is_the_distance_of_the_pooled_frames():
    generated, reference = torch.randn(7, 5, 3), torch.randn(9, 4, 3) * 2 + 1
    result = filled(generated, reference, 3).compute()
    stats = [(x.double().flatten(0, 1).mean(0), torch.cov(x.double().flatten(0, 1).T)) for x in (generated, reference)]
    assert result["value"] == pytest.approx(frechet_distance(*stats[0], *stats[1]), rel=1e-9)
    assert (result["n_generated"], result["n_reference"]) == (7, 9)
    assert (result["frames_generated"], result["frames_reference"]) == (35, 36)
    assert result["embedding"] == asdict(identity(3))


def test_audio_against_itself_is_at_distance_0():
    frames = torch.randn(10, 20, 4)
    assert filled(frames, frames, 4).compute()["value"] == pytest.approx(0, abs=1e-9)


def test_two_halves_summed_equal_the_whole():
    generated, reference = torch.randn(1001, 2, 8) + 3, torch.randn(50, 2, 8)
    whole = filled(generated, reference, 8)
    first, second = filled(generated[:700], reference[:20], 8), filled(generated[700:], reference[20:], 8)
    for state in first._defaults:
        setattr(first, state, getattr(first, state) + getattr(second, state))
        assert first._reductions[state] is not None
    assert first.compute()["value"] == pytest.approx(whole.compute()["value"], abs=1e-10)
    assert first.compute()["n_generated"] == 1001


def test_a_large_offset_does_not_spoil_the_covariance():
    frames = torch.randn(5000, 1, 4, dtype=torch.float64)
    metric = FrechetDistance(identity(4))
    metric.update(frames + 1e4, real=True)
    _, cov = metric._gaussian("reference")
    torch.testing.assert_close(cov, torch.cov(frames[:, 0].T), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("clips", "too_few"), [(5, True), (6, False)])
def test_too_few_counts_clips_not_frames_on_either_side(clips, too_few):
    few, many = torch.randn(clips, 10, 3), torch.randn(20, 10, 3)
    assert filled(few, many, 3).compute()["too_few"] is too_few
    assert filled(many, few, 3).compute()["too_few"] is too_few


def test_a_non_finite_clip_is_left_out_and_counted():
    generated, reference = torch.randn(7, 5, 3), torch.randn(9, 4, 3)
    clean = filled(generated, reference, 3).compute()
    broken = torch.cat([generated, torch.full((1, 5, 3), float("nan")), torch.full((1, 5, 3), float("inf"))])
    result = filled(broken, reference, 3).compute()
    assert result["value"] == clean["value"]
    assert (result["n_generated"], result["dropped_generated"]) == (7, 2)


def test_an_empty_side_is_an_error_that_names_it():
    metric = FrechetDistance(identity(3))
    metric.update(torch.randn(4, 5, 3), real=True)
    with pytest.raises(ValueError, match="of generated audio"):
        metric.compute()


def test_sums_are_float64_before_the_first_clip_and_after_half_precision():
    metric = FrechetDistance(identity(3)).half()
    assert metric.generated_sum.dtype == metric.reference_outer.dtype == torch.float64


def test_reset_forgets_everything():
    metric = filled(torch.randn(4, 5, 3), torch.randn(4, 5, 3), 3)
    metric.reset()
    assert int(metric.generated_clips) == int(metric.reference_frames) == 0
    assert not metric.reference_outer.any()
