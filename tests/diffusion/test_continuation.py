"""A latent that goes on: known frames keep their bits, the right frames are asked for."""

import pytest
import torch

from melody_cm.diffusion import ConsistencySampler, Continuation, DDIMSampler, LinearAngles
from melody_cm.interfaces import Conditioning, Denoiser

NOTHING = Conditioning(None, None, None, torch.zeros(2, dtype=torch.bool))


class Neighbours(Denoiser):
    """Velocity from the frame before and the angle, so that known frames and angles are seen to matter."""

    per_frame_angles = True

    def forward(self, noisy_latent, angle, conditioning):
        self.angle = angle
        level = angle if angle.ndim == 2 else angle[:, None].expand(-1, noisy_latent.shape[-1])
        return torch.sin(noisy_latent.roll(1, -1) + level[:, None])


def generators():
    return [torch.Generator().manual_seed(seed) for seed in (1, 2)]


def continuation(sampler=None, **settings):
    return Continuation(
        sampler or DDIMSampler(), Neighbours(), LinearAngles().angles(3), **{"window": 12, "chunk": 3} | settings
    )


@pytest.mark.parametrize("sampler", [DDIMSampler(), ConsistencySampler()])
@pytest.mark.parametrize("past_frames", [0, 1, 8, 9, 10, 40])
def test_new_frames_are_those_of_a_window_whose_past_was_set_after_every_step(sampler, past_frames):
    past, noise = torch.randn(2, 4, past_frames), torch.randn(2, 4, 12)
    kept = min(past_frames, 9)
    made = continuation(sampler).next_frames(past, noise, NOTHING, generators())
    assert made.shape == (2, 4, 12 - kept)
    angles, rows = LinearAngles().angles(3).float(), generators()
    latent, denoiser = noise.clone(), Neighbours()
    for place, angle in enumerate(angles[:-1]):
        latent[..., :kept] = past[..., past_frames - kept :]
        levels = torch.full((2, 12), angle)
        levels[:, :kept] = 0
        velocity = denoiser(latent, levels, None)
        if isinstance(sampler, DDIMSampler):
            turn = angle - angles[place + 1]
            latent = torch.cos(turn) * latent - torch.sin(turn) * velocity
        else:
            latent = torch.cos(levels[:, None]) * latent - torch.sin(levels[:, None]) * velocity
            if place < 2:
                fresh = torch.stack([torch.randn(48, generator=row).view(4, 12) for row in rows])
                latent = torch.cos(angles[place + 1]) * latent + torch.sin(angles[place + 1]) * fresh
    torch.testing.assert_close(made, latent[..., kept:], rtol=0, atol=1e-5)


def test_known_frames_have_angle_0_and_reach_the_network_bit_for_bit():
    seen = []

    class Watching(Neighbours):
        def forward(self, noisy_latent, angle, conditioning):
            seen.append((noisy_latent[..., :9].clone(), angle[:, :9].clone()))
            return super().forward(noisy_latent, angle, conditioning)

    past = torch.randn(2, 4, 20)
    ongoing = Continuation(DDIMSampler(), Watching(), LinearAngles().angles(5), 12, 3)
    ongoing.next_frames(past, torch.randn(2, 4, 12), NOTHING, generators())
    assert len(seen) == 5
    assert all(torch.equal(latent, past[..., 11:]) and not angle.any() for latent, angle in seen)


def test_the_past_is_not_changed():
    past = torch.randn(2, 4, 20)
    before = past.clone()
    continuation().next_frames(past, torch.randn(2, 4, 12), NOTHING, generators())
    assert torch.equal(past, before)


@pytest.mark.parametrize("chunk", [0, 12, 13])
def test_a_chunk_that_is_no_part_of_the_window_is_refused(chunk):
    with pytest.raises(ValueError, match=f"chunk of {chunk} frames must be shorter than its window of 12"):
        continuation(chunk=chunk)


def test_a_denoiser_with_one_angle_a_clip_is_refused():
    ongoing = continuation()
    ongoing.denoiser.per_frame_angles = False
    with pytest.raises(ValueError, match="per_frame_angles"):
        ongoing.next_frames(torch.randn(2, 4, 9), torch.randn(2, 4, 12), NOTHING, generators())
