from itertools import pairwise

import pytest
import torch
from diffusion_toys import (
    GaussianDenoiser,
    LinearDenoiser,
    OneAngleDenoiser,
    PointDenoiser,
    ZeroDenoiser,
    first_epoch,
    no_conditioning,
    over_latent,
    pooled_conditioning,
)

from melody_cm.diffusion import DenoisingObjective, LinearAngles, ScaledLinearBetaAngles, velocity


def seen_by_denoiser(objective, latent, items=None):
    """The call that one objective makes: noisy latent, angle, conditioning."""
    denoiser = LinearDenoiser(channels=latent.shape[1])
    items = range(len(latent)) if items is None else items
    objective({"student": denoiser}, latent, pooled_conditioning(len(latent)), first_epoch(items))
    (call,) = denoiser.calls
    return call


def velocity_mse(denoiser, latent, num_chunks=4, **kwargs):
    objective = DenoisingObjective(LinearAngles(), num_chunks=num_chunks, **kwargs)
    losses = objective({"student": denoiser}, latent, no_conditioning(len(latent)), first_epoch(range(len(latent))))
    return losses.terms["velocity"].item()


@pytest.mark.parametrize("std", [1 / 3, 1.0])
def test_zero_predictor_on_white_noise(std):
    assert velocity_mse(ZeroDenoiser(), std * torch.randn(600, 4, 64)) == pytest.approx((1 + std**2) / 2, rel=0.03)


@pytest.mark.parametrize("std", [1 / 3, 1.0])
def test_best_linear_predictor_on_white_noise(std):
    assert velocity_mse(GaussianDenoiser(std), std * torch.randn(600, 4, 64)) == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("num_chunks", [1, 4])
def test_exact_denoiser_has_no_loss_and_predicts_the_latent(num_chunks):
    latent = torch.full((8, 4, 16), 0.7)
    objective = DenoisingObjective(LinearAngles(), num_chunks=num_chunks)
    losses = objective({"student": PointDenoiser(0.7)}, latent, no_conditioning(8), first_epoch(range(8)))
    assert losses.terms["velocity"].item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(losses.prediction, latent, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_frames", [4, 10, 13])
def test_angles_are_constant_between_the_boundaries(num_frames):
    _, angle, _ = seen_by_denoiser(DenoisingObjective(LinearAngles(), num_chunks=4), torch.randn(5, 4, num_frames))
    assert angle.shape == (5, num_frames)
    ends = [m * num_frames // 4 for m in range(5)]
    for row in angle:
        values = [set(row[start:end].tolist()) for start, end in pairwise(ends)]
        assert all(len(value) == 1 for value in values)
        assert len(set.union(*values)) == 4


def test_one_chunk_gives_one_angle_a_clip():
    _, angle, _ = seen_by_denoiser(DenoisingObjective(LinearAngles()), torch.randn(5, 4, 12))
    assert angle.shape == (5,)
    assert len(set(angle.tolist())) == 5


def test_angles_come_from_the_schedule():
    schedule = ScaledLinearBetaAngles()
    _, angle, _ = seen_by_denoiser(DenoisingObjective(schedule), torch.randn(40, 4, 12))
    assert torch.isin(angle, schedule.table.float()).all()
    assert angle.std() > 0.2


def test_tied_chunks_share_one_angle():
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, tie_probability=0.25)
    _, angle, _ = seen_by_denoiser(objective, torch.randn(400, 4, 8))
    tied = (angle == angle[:, :1]).all(dim=1)
    assert tied.float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_known_prefixes_have_every_length_and_leave_something_to_do():
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, prefix_probability=0.25)
    noisy, angle, _ = seen_by_denoiser(objective, latent := torch.randn(400, 4, 8))
    known = angle == 0
    assert (known[:, :-1] >= known[:, 1:]).all()
    assert set(known.sum(dim=1).tolist()) == {0, 2, 4, 6}
    assert known[:, 0].float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert torch.equal(noisy.transpose(1, 2)[known], latent.transpose(1, 2)[known])


def test_holes_are_one_interior_chunk():
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, inpaint_probability=0.4)
    _, angle, _ = seen_by_denoiser(objective, torch.randn(400, 4, 8))
    known = angle[:, ::2] == 0
    patterns = {tuple(row) for row in known.tolist()}
    assert patterns == {(False,) * 4, (True, False, True, True), (True, True, False, True)}
    assert known[:, 0].float().mean().item() == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize("shape", [(6, 4, 8), (6, 4, 8, 3)])
def test_loss_is_the_mean_over_the_frames_that_are_not_known(shape):
    latent = torch.randn(shape)
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, prefix_probability=0.6, inpaint_probability=0.3)
    draws = first_epoch(range(6))
    losses = objective({"student": ZeroDenoiser()}, latent, no_conditioning(6), draws)
    noisy, angle, _ = seen_by_denoiser(objective, latent)
    noise = draws.normal("diffusion_noise", latent.shape[1:])
    torch.testing.assert_close(
        noisy, over_latent(angle, latent).cos() * latent + over_latent(angle, latent).sin() * noise
    )
    squared = velocity(latent, noise, angle).square()
    clips = [torch.cat([squared[b, :, t].flatten() for t in range(8) if angle[b, t] > 0]) for b in range(6)]
    assert len({len(errors) for errors in clips}) > 1
    expected = sum(errors.mean().item() for errors in clips) / 6
    assert losses.terms["velocity"].item() == pytest.approx(expected, rel=1e-5)


def test_parts_of_a_batch_average_to_the_whole():
    latent = torch.randn(6, 4, 8)
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, prefix_probability=0.6, inpaint_probability=0.3)

    def loss(rows):
        draws = first_epoch(rows)
        networks = {"student": ZeroDenoiser()}
        return objective(networks, latent[list(rows)], no_conditioning(len(rows)), draws).terms["velocity"].item()

    assert loss(range(6)) == pytest.approx((loss(range(3)) + loss(range(3, 6))) / 2, rel=1e-5)


def test_nothing_is_dropped_in_validation():
    seen = []

    class Watching(ZeroDenoiser):
        def forward(self, noisy_latent, angle, conditioning):
            seen.append(conditioning.dropped.any().item())
            return super().forward(noisy_latent, angle, conditioning)

    objective = DenoisingObjective(LinearAngles(), condition_drop=1.0)
    for network in (Watching().train(), Watching().eval()):
        objective({"student": network}, torch.randn(4, 4, 4), no_conditioning(4), first_epoch(range(4)))
    assert seen == [True, False]


@pytest.mark.parametrize(("drop", "low", "high"), [(0.0, 0, 0), (0.1, 0.04, 0.16), (1.0, 1, 1)])
def test_conditioning_is_dropped_row_by_row(drop, low, high):
    _, _, conditioning = seen_by_denoiser(
        DenoisingObjective(LinearAngles(), condition_drop=drop), torch.randn(400, 4, 4)
    )
    assert low <= conditioning.dropped.float().mean().item() <= high


def test_a_clip_sees_the_same_in_any_batch():
    latent = torch.randn(8, 4, 12)
    objective = DenoisingObjective(LinearAngles(), 4, 0.25, 0.25, 0.1, condition_drop=0.5)
    noisy, angle, conditioning = seen_by_denoiser(objective, latent, items=range(20, 28))
    for row in range(8):
        alone = seen_by_denoiser(objective, latent[row : row + 1], items=[20 + row])
        assert torch.equal(alone[0][0], noisy[row])
        assert torch.equal(alone[1][0], angle[row])
        assert alone[2].dropped[0] == conditioning.dropped[row]
    assert conditioning.dropped.any()
    assert not conditioning.dropped.all()


def test_known_frames_pass_no_gradient():
    class Keeper(ZeroDenoiser):
        def forward(self, noisy_latent, angle, conditioning):
            self.angle, self.predicted = angle, torch.zeros_like(noisy_latent).requires_grad_()
            return self.predicted

    denoiser = Keeper()
    objective = DenoisingObjective(LinearAngles(), num_chunks=4, prefix_probability=1.0)
    losses = objective({"student": denoiser}, torch.randn(4, 4, 8), no_conditioning(4), first_epoch(range(4)))
    losses.terms["velocity"].backward()
    has_gradient = denoiser.predicted.grad.abs().sum(dim=1) > 0
    assert torch.equal(has_gradient, denoiser.angle > 0)
    assert not has_gradient[:, :2].any()


def test_half_precision_denoiser_is_judged_in_fp32():
    denoiser = LinearDenoiser()
    objective = DenoisingObjective(LinearAngles(), num_chunks=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective({"student": denoiser}, torch.randn(4, 4, 8), pooled_conditioning(4), first_epoch(range(4)))
    assert losses.terms["velocity"].dtype == torch.float32
    assert losses.prediction.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_chunks": 0}, "at least 1"),
        ({"prefix_probability": 0.1}, "at least 2"),
        ({"num_chunks": 2, "inpaint_probability": 0.1}, "at least 3"),
        ({"condition_drop": 1.5}, "condition_drop is 1.5"),
        ({"num_chunks": 4, "prefix_probability": 0.7, "inpaint_probability": 0.4}, "exceed 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenoisingObjective(LinearAngles(), **arguments)


def test_misfits_are_refused():
    objective = DenoisingObjective(LinearAngles(), num_chunks=4)
    with pytest.raises(ValueError, match="one angle a clip"):
        objective({"student": OneAngleDenoiser()}, torch.randn(2, 4, 8), no_conditioning(2), first_epoch([0, 1]))
    with pytest.raises(ValueError, match="3 latent frames"):
        objective({"student": ZeroDenoiser()}, torch.randn(2, 4, 3), no_conditioning(2), first_epoch([0, 1]))
