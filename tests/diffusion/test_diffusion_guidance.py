import pytest
import torch
from diffusion_toys import LinearDenoiser, OneAngleDenoiser, no_conditioning, over_latent, pooled_conditioning

from melody_cm.diffusion import Guided, ddim_step


def test_guidance_mixes_two_plain_calls():
    denoiser, conditioning = LinearDenoiser(), pooled_conditioning(3)
    noisy, angle = torch.randn(3, 4, 10), torch.tensor([0.2, 0.9, 1.5])
    conditional = denoiser(noisy, angle, conditioning)
    unconditional = denoiser(noisy, angle, conditioning.drop(torch.ones(3, dtype=torch.bool)))
    assert (conditional - unconditional).abs().min() > 1e-3
    guided = Guided(denoiser, guidance_scale=2.5)(noisy, angle, conditioning)
    torch.testing.assert_close(guided, 2.5 * conditional - 1.5 * unconditional)


def test_guidance_is_one_network_call_on_twice_the_batch():
    denoiser, conditioning = LinearDenoiser(), pooled_conditioning(3)
    noisy, angle = torch.randn(3, 4, 10), torch.rand(3, 10)
    Guided(denoiser, guidance_scale=2.0)(noisy, angle, conditioning)
    ((seen, seen_angle, seen_conditioning),) = denoiser.calls
    assert torch.equal(seen, torch.cat([noisy, noisy]))
    assert torch.equal(seen_angle, torch.cat([angle, angle]))
    assert seen_conditioning.dropped.tolist() == [False] * 3 + [True] * 3
    assert not conditioning.dropped.any()


def test_scale_one_is_a_plain_call():
    denoiser, conditioning = LinearDenoiser(), pooled_conditioning(3)
    noisy, angle = torch.randn(3, 4, 10), torch.rand(3)
    guided = Guided(denoiser, guidance_scale=1.0)(noisy, angle, conditioning)
    assert len(denoiser.calls) == 1
    assert len(denoiser.calls[0][0]) == 3
    assert torch.equal(guided, denoiser(noisy, angle, conditioning))


def test_scale_zero_is_unconditional():
    denoiser, conditioning = LinearDenoiser(), pooled_conditioning(3)
    noisy, angle = torch.randn(3, 4, 10), torch.rand(3)
    guided = Guided(denoiser, guidance_scale=0.0)(noisy, angle, conditioning)
    torch.testing.assert_close(guided, denoiser(noisy, angle, no_conditioning(3)))


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0])
def test_displacement_form_of_the_paper_equals_guiding_the_estimate(w):
    """MusicCM equations 4-6: `x + (1 + w) Psi(cond) - w Psi(uncond)`, Psi being LCM's noise form of the DDIM step."""
    denoiser, conditioning = LinearDenoiser().double(), pooled_conditioning(3)
    conditioning.pooled = conditioning.pooled.double()
    noisy = torch.randn(3, 4, 10, dtype=torch.float64)
    angle, lower = torch.tensor([0.4, 1.0, 1.5]).double(), torch.tensor([0.2, 0.7, 1.4]).double()
    (alpha, sigma), (alpha_s, sigma_s) = (
        (over_latent(a, noisy).cos(), over_latent(a, noisy).sin()) for a in (angle, lower)
    )

    def displacement(velocity):
        noise = alpha * velocity + sigma * noisy
        scale = sigma_s * (sigma * alpha_s / (sigma_s * alpha) - 1)
        return (alpha_s / alpha - 1) * noisy - scale * noise

    conditional = displacement(denoiser(noisy, angle, conditioning))
    unconditional = displacement(denoiser(noisy, angle, no_conditioning(3)))
    expected = noisy + (1 + w) * conditional - w * unconditional
    guided = Guided(denoiser, guidance_scale=1 + w)(noisy, angle, conditioning)
    torch.testing.assert_close(ddim_step(noisy, guided, angle, lower), expected, rtol=1e-9, atol=1e-9)


def test_guided_takes_the_angles_its_denoiser_takes():
    assert Guided(LinearDenoiser(), 2.0).per_frame_angles
    assert not Guided(OneAngleDenoiser(), 2.0).per_frame_angles
