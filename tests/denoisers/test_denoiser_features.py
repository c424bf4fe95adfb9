"""Features of the denoisers against hooks in a whole pass."""

import pytest
import torch

from melody_cm.denoisers import DualPathDenoiser, UNet2D
from melody_cm.diffusion import ScaledLinearBetaAngles, TimestepDenoiser
from melody_cm.interfaces import Conditioning, FeatureNetwork, TimestepNetwork
from melody_cm.signal.frames import overlap_add


def conditioning(batch, width, dropped=()):
    tokens = torch.randn(batch, 5, width)
    rows = torch.tensor([row in dropped for row in range(batch)])
    return Conditioning(tokens, tokens.mean(1), None, rows)


def unet():
    body = UNet2D(4, 16, channels=[16, 32, 32], layers_per_block=1, attention_levels=[1], head_width=16)
    return TimestepDenoiser(body, ScaledLinearBetaAngles(zero_terminal_snr=True), "velocity")


def test_unet_features_are_those_of_the_encoder_and_the_middle_in_a_whole_pass():
    denoiser, seen = unet(), []
    body = denoiser.network.unet
    for block in body.down_blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    body.mid_block.register_forward_hook(lambda module, args, output: seen.append(output))
    latent, angle, condition = torch.randn(3, 4, 16, 8), torch.tensor([0.1, 0.8, 1.5]), conditioning(3, 16, {1})
    denoiser(latent, angle, condition)
    expected, seen = [feature.flatten(2) for feature in seen], []
    features = denoiser.features(latent, angle, condition)
    assert len(expected) == len(features) == 4
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [feature.shape[1] for feature in features] == denoiser.feature_channels
    assert isinstance(denoiser, FeatureNetwork)


def test_the_decoder_is_not_run_for_features():
    denoiser = unet()
    denoiser.network.unet.up_blocks[0].register_forward_hook(lambda *_: pytest.fail("the decoder ran"))
    denoiser.features(torch.randn(2, 4, 16, 8), torch.rand(2), conditioning(2, 16))


def test_dual_path_features_are_the_frames_after_the_blocks_of_the_first_half():
    denoiser, seen = DualPathDenoiser(4, 16, 3, 8, 2, 24, 8), []
    for block in denoiser.blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output))
    latent, angle, condition = torch.randn(4, 4, 30), torch.rand(4), conditioning(4, 16, {0, 2})
    denoiser(latent, angle, condition)
    frames = [overlap_add(state.transpose(1, 2), 30).transpose(1, 2) for state in seen[:2]]
    features = denoiser.features(latent, angle, condition)
    assert len(seen) == 3 + 2
    for ours, theirs in zip(features, frames, strict=True):
        # Inside the network, clips with tokens come first.
        torch.testing.assert_close(ours, theirs[torch.tensor([2, 0, 3, 1])])
    assert [feature.shape[1] for feature in features] == denoiser.feature_channels


def test_a_network_without_features_says_so():
    class Plain(TimestepNetwork):
        def forward(self, noisy_latent, timestep, conditioning):
            return noisy_latent

    denoiser = TimestepDenoiser(Plain(), ScaledLinearBetaAngles(), "velocity")
    assert not denoiser.feature_channels
    with pytest.raises(ValueError, match="Plain has no features"):
        denoiser.features(torch.randn(2, 4, 8), torch.rand(2), conditioning(2, 16))
