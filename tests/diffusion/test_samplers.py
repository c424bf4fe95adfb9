import math

import pytest
import torch
from diffusion_toys import (
    GaussianDenoiser,
    LinearDenoiser,
    OneAngleDenoiser,
    PointDenoiser,
    WavyNetwork,
    no_conditioning,
    pooled_conditioning,
)
from test_angles import diffusers_scheduler

from melody_cm.diffusion import (
    ConsistencySampler,
    DDIMSampler,
    GridAngles,
    Guided,
    LinearAngles,
    ScaledLinearBetaAngles,
    TimestepDenoiser,
)
from melody_cm.interfaces import Known
from melody_cm.randomness import keyed_generator, normal_rows

SAMPLERS = [DDIMSampler(), ConsistencySampler()]
PREDICTIONS = {"velocity": "v_prediction", "noise": "epsilon"}


def generators(items):
    return [keyed_generator(0, "sampling", 0, item) for item in items]


def relative_error(result, expected):
    return ((result - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("num_steps", [2, 10, 50])
@pytest.mark.parametrize("final_zero", [True, False])
@pytest.mark.parametrize(
    ("spacing", "prediction", "zero_snr"),
    [
        ("trailing", "velocity", False),
        ("trailing", "noise", False),
        ("leading", "velocity", False),
        ("leading", "noise", False),
        ("trailing", "velocity", True),
        ("leading", "velocity", True),
    ],
)
def test_ddim_equals_diffusers(spacing, prediction, zero_snr, final_zero, num_steps):
    scheduler = diffusers_scheduler(spacing, PREDICTIONS[prediction], zero_snr, final_zero)
    scheduler.set_timesteps(num_steps)
    network, noise, conditioning = WavyNetwork(), torch.randn(2, 4, 16, 8), no_conditioning(2)
    expected = noise
    for t in scheduler.timesteps:
        output = network(expected, t.float().expand(2), conditioning)
        expected = scheduler.step(output, t, expected).prev_sample
    schedule = ScaledLinearBetaAngles(spacing=spacing, final_zero=final_zero, zero_terminal_snr=zero_snr)
    denoiser = TimestepDenoiser(network, schedule, prediction)
    latent = DDIMSampler().sample(denoiser, noise, conditioning, schedule.angles(num_steps), generators([0, 1]))
    assert relative_error(latent, expected) < 1e-4


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
@pytest.mark.parametrize(("prediction", "zero_snr"), [("velocity", False), ("noise", False), ("velocity", True)])
def test_consistency_sampler_equals_diffusers_lcm(prediction, zero_snr, num_steps):
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        prediction_type=PREDICTIONS[prediction],
        rescale_betas_zero_snr=zero_snr,
    )
    scheduler.set_timesteps(num_steps, original_inference_steps=50)
    network, noise, conditioning = WavyNetwork(), torch.randn(1, 4, 16), no_conditioning(1)
    expected, (generator,) = noise, generators([0])
    for t in scheduler.timesteps:
        output = network(expected, t.float().expand(1), conditioning)
        expected = scheduler.step(output, t, expected, generator=generator).prev_sample
    schedule = ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=zero_snr)
    denoiser = TimestepDenoiser(network, schedule, prediction)
    angles = GridAngles(schedule, grid_steps=50).angles(num_steps)
    latent = ConsistencySampler().sample(denoiser, noise, conditioning, angles, generators([0]))
    assert relative_error(latent, expected) < 1e-4


def test_ddim_follows_the_flow_of_a_gaussian():
    """Where latents are Gaussian the flow only scales the noise, by `std` from pi/2 to 0."""
    noise, angles = torch.randn(4, 4, 32), LinearAngles().angles(400)
    latent = DDIMSampler().sample(GaussianDenoiser(0.4), noise, no_conditioning(4), angles, generators(range(4)))
    torch.testing.assert_close(latent, 0.4 * noise, rtol=0.01, atol=1e-4)


def test_consistency_sampler_adds_noise_between_steps_only():
    """With the velocity 0 the clean latent is `cos(angle) * noisy`, so the whole chain can be written down."""
    noise, (a, b, _) = torch.randn(2, 4, 8), (angles := LinearAngles().angles(2)).tolist()
    fresh = normal_rows(generators([0, 1]), (4, 8))
    latent = ConsistencySampler().sample(OneAngleDenoiser(), noise, no_conditioning(2), angles, generators([0, 1]))
    expected = math.cos(b) * (math.cos(b) * math.cos(a) * noise + math.sin(b) * fresh)
    torch.testing.assert_close(latent, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_exact_denoiser_is_sampled_exactly(sampler, num_steps):
    denoiser, angles = PointDenoiser(0.3), LinearAngles().angles(num_steps)
    latent = sampler.sample(denoiser, torch.randn(3, 4, 6), no_conditioning(3), angles, generators(range(3)))
    torch.testing.assert_close(latent, torch.full((3, 4, 6), 0.3), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
@pytest.mark.parametrize("num_steps", [1, 2, 6])
def test_one_network_call_a_step(sampler, num_steps):
    denoiser, angles = LinearDenoiser(), LinearAngles().angles(num_steps)
    latent = sampler.sample(
        Guided(denoiser, 2.0), torch.randn(2, 4, 6), pooled_conditioning(2), angles, generators([0, 1])
    )
    assert len(denoiser.calls) == num_steps
    for (_, angle, _), level in zip(denoiser.calls, angles, strict=False):
        torch.testing.assert_close(angle, level.float().expand(4))
    assert not latent.requires_grad


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
def test_a_clip_is_the_same_in_any_batch(sampler):
    angles, conditioning = LinearAngles().angles(4), no_conditioning(8)
    noise = normal_rows(generators(range(100, 108)), (4, 6))
    together_denoiser = LinearDenoiser()
    together = sampler.sample(together_denoiser, noise, conditioning, angles, generators(range(8)))
    for row in range(8):
        alone_noise = normal_rows(generators([100 + row]), (4, 6))
        assert torch.equal(alone_noise[0], noise[row])
        alone = sampler.sample(LinearDenoiser(), alone_noise, no_conditioning(1), angles, generators([row]))
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().mean() > 0.1


def test_fresh_noise_is_bitwise_the_same_in_any_batch():
    """A denoiser whose clean latent is 0 leaves nothing but the fresh noise to see."""
    angles = LinearAngles().angles(3)

    class ToZero(LinearDenoiser):
        def forward(self, noisy_latent, angle, conditioning):
            self.calls.append(noisy_latent)
            return noisy_latent * angle.cos()[:, None, None] / angle.sin()[:, None, None]

    def seen(items):
        denoiser = ToZero()
        noise = normal_rows(generators(items), (4, 6)).zero_()
        ConsistencySampler().sample(denoiser, noise, no_conditioning(len(items)), angles, generators(items))
        return denoiser.calls

    together = seen(range(8))
    for row in range(8):
        first, second, _ = seen([row])
        assert torch.equal(first[0], together[0][row])
        assert torch.equal(second[0], together[1][row])
        assert second.abs().sum() > 0


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
@pytest.mark.parametrize("axes", [(10,), (10, 3)])
def test_known_frames_are_kept_bit_for_bit_and_announced_by_angle_zero(sampler, axes):
    denoiser, angles = LinearDenoiser(), LinearAngles().angles(3)
    known = Known(torch.randn(2, 4, *axes), torch.zeros(2, 10, dtype=torch.bool))
    known.frames[0, :6] = True
    known.frames[1, [0, 1, 7, 8, 9]] = True
    noise = torch.randn(2, 4, *axes)
    latent = sampler.sample(denoiser, noise, pooled_conditioning(2), angles, generators([0, 1]), known)
    assert len(denoiser.calls) == 3
    for (noisy, angle, _), level in zip(denoiser.calls, angles, strict=False):
        assert torch.equal(angle == 0, known.frames)
        torch.testing.assert_close(angle[~known.frames], level.float().expand(9))
        assert torch.equal(noisy.transpose(1, 2)[known.frames], known.latent.transpose(1, 2)[known.frames])
    frames = latent.transpose(1, 2)
    assert torch.equal(frames[known.frames], known.latent.transpose(1, 2)[known.frames])
    assert not torch.isclose(frames[~known.frames], known.latent.transpose(1, 2)[~known.frames]).all(dim=1).any()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
def test_nothing_known_is_plain_sampling(sampler):
    noise, angles, conditioning = torch.randn(2, 4, 10), LinearAngles().angles(3), pooled_conditioning(2)
    nothing = Known(torch.randn(2, 4, 10), torch.zeros(2, 10, dtype=torch.bool))
    plain = sampler.sample(LinearDenoiser(), noise, conditioning, angles, generators([0, 1]))
    latent = sampler.sample(LinearDenoiser(), noise, conditioning, angles, generators([0, 1]), nothing)
    torch.testing.assert_close(latent, plain)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "consistency"])
def test_known_frames_need_a_denoiser_that_takes_them(sampler):
    known = Known(torch.randn(2, 4, 10), torch.ones(2, 10, dtype=torch.bool))
    with pytest.raises(ValueError, match="per_frame_angles"):
        sampler.sample(
            OneAngleDenoiser(),
            torch.randn(2, 4, 10),
            no_conditioning(2),
            LinearAngles().angles(3),
            generators([0, 1]),
            known,
        )
