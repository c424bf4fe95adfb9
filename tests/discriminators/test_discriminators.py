"""The discriminators against folding and convolving by hand, and their sizes at the paper's settings."""

import pytest
import torch
import torch.nn.functional as F
import yaml

from melody_cm.discriminators import MelPatchDiscriminator, MultiPeriodDiscriminator, MultiResolutionDiscriminator
from melody_cm.storage import build


def composed():
    with open("configs/discriminator/waveform.yaml", encoding="utf-8") as file:
        return yaml.safe_load(file)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_paper_size_is_that_of_hifigan_and_univnet():
    with torch.device("meta"):
        discriminator = build(composed())
    per_period = [1 * 32 * 5, 32 * 128 * 5, 128 * 512 * 5, 512 * 1024 * 5, 1024 * 1024 * 5, 1024 * 3]
    outputs = [32, 128, 512, 1024, 1024, 1]  # A bias and a gain of weight norm each.
    assert parameters(discriminator.multi_period) == 5 * (sum(per_period) + 2 * sum(outputs))
    per_resolution = [32 * 27, 3 * 32 * 32 * 27, 32 * 32 * 9, 32 * 9]
    assert parameters(discriminator.multi_resolution) == 3 * (sum(per_resolution) + 2 * (5 * 32 + 1))


def test_a_period_judge_compares_samples_one_period_apart():
    """Its first layer, written as a loop over the samples of each column."""
    torch.manual_seed(0)
    judge = MultiPeriodDiscriminator([3], [2, 2]).judges[0]
    waveform = torch.randn(1, 1, 30)
    kernel, bias = judge.hidden[0].weight[:, 0, :, 0], judge.hidden[0].bias
    expected = torch.zeros(2, 4, 3)
    for column in range(3):
        samples = F.pad(waveform[0, 0, column::3], (2, 2))
        for row in range(4):
            expected[:, row, column] = kernel @ samples[3 * row : 3 * row + 5] + bias
    torch.testing.assert_close(judge(waveform).feature_maps[0][0], F.leaky_relu(expected, 0.1))


def test_a_length_that_is_no_multiple_of_the_period_is_reflected():
    judge = MultiPeriodDiscriminator([5], [2, 2]).judges[0]
    waveform = torch.randn(1, 1, 33)
    longer = torch.cat([waveform, waveform[..., [31, 30]]], -1)
    torch.testing.assert_close(judge(waveform).logits, judge(longer).logits)


def test_a_resolution_judge_sees_magnitudes_alone():
    torch.manual_seed(0)
    discriminator = MultiResolutionDiscriminator([64, 128], [16, 32], [48, 128], channels=4)
    waveform = torch.randn(2, 1, 1000)
    for first, second in zip(discriminator(waveform), discriminator(-waveform), strict=True):
        torch.testing.assert_close(first.logits, second.logits)
    padded = F.pad(waveform[:, 0], (32, 32), mode="reflect")
    frames = torch.stft(padded, 64, 16, 48, torch.hann_window(48), center=False, return_complex=True).abs()
    judge = discriminator.judges[0]
    expected = F.leaky_relu(judge.hidden[0](frames[:, None]), 0.2)
    torch.testing.assert_close(judge(waveform).feature_maps[0], expected)
    assert [f.shape[2] for f in judge(waveform).feature_maps] == [33] * 5
    assert [f.shape[3] for f in judge(waveform).feature_maps] == [63, 32, 16, 8, 8]


def test_patches_of_a_log_mel_are_judged_on_their_own_scale():
    """Against a convolution written as a loop; each logit sees a patch and nothing else."""
    torch.manual_seed(0)
    judge = MelPatchDiscriminator([4, 5], mel_mean=-3.0, mel_std=2.0)
    mel = torch.randn(1, 32, 16)
    (output,) = judge(mel)
    scaled = F.pad((mel[0] + 3) / 2, (1, 1, 1, 1))
    weight, bias = judge.hidden[0].weight[:, 0], judge.hidden[0].bias
    first = torch.stack([(weight * scaled[6:10, 4:8]).sum((1, 2)) + bias])[0]
    torch.testing.assert_close(output.feature_maps[0][0, :, 3, 2], F.leaky_relu(first, 0.2))
    assert output.logits.shape == (1, 8 * 4)
    changed = mel.clone()
    changed[0, :4] += 5
    moved = (judge(changed)[0].logits != output.logits).view(8, 4).any(1)
    assert moved[0]
    assert not moved[4:].any()


def test_lists_of_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match="1 fft_sizes, 2 hop_lengths"):
        MultiResolutionDiscriminator([64], [16, 32], [48])
