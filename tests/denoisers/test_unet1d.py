import pytest
import torch
import torch.nn.functional as F

from melody_cm.denoisers import UNet1D
from melody_cm.denoisers.unet1d import Level, ResidualBlock, TokenAttention
from melody_cm.interfaces import Conditioning

WIDTH = 8


def small(**changes):
    arguments = {"latent_channels": 3, "condition_width": WIDTH, "channels": [4, 8, 8], "factors": [1, 2, 3]}
    return UNet1D(
        **{**arguments, "num_blocks": 1, "num_heads": 2, "feedforward_width": 12, "angle_width": 6, **changes}
    )


def condition(batch, num_tokens=5):
    tokens = torch.randn(batch, num_tokens, WIDTH)
    return Conditioning(tokens, tokens.mean(1), None, torch.zeros(batch, dtype=torch.bool))


def seen_by(modules, which):
    """The inputs that a network's calls give to modules, in order."""
    seen = []
    for module in modules:
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[which]))
    return seen


def levels(net):
    return [module for module in net.modules() if isinstance(module, Level)]


def attentions(net):
    return [module for module in net.modules() if isinstance(module, TokenAttention)]


def group_norm(x, groups, norm):
    """Of each clip and group by itself, then each channel's own scale and shift."""
    cut = x.unflatten(1, (groups, -1))
    normed = (cut - cut.mean((2, 3), keepdim=True)) / (cut.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    return normed.flatten(1, 2) * norm.weight[:, None] + norm.bias[:, None]


@pytest.mark.parametrize(("in_channels", "channels"), [(6, 8), (8, 8)])
def test_a_residual_block_scales_and_shifts_each_channel(in_channels, channels):
    block = ResidualBlock(in_channels, channels, 5)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, modulator = torch.randn(2, in_channels, 7), torch.randn(2, 5)
    normed = group_norm(x, 2 if in_channels == 6 else 8, block.input_norm)
    hidden = F.conv1d(normed * normed.sigmoid(), block.input.weight, block.input.bias, padding=1)
    hidden = group_norm(hidden, 8, block.norm)
    modulation = modulator @ block.modulation.weight.T + block.modulation.bias
    hidden = hidden * (1 + modulation[:, :channels, None]) + modulation[:, channels:, None]
    hidden = F.conv1d(hidden * hidden.sigmoid(), block.output.weight, block.output.bias, padding=1)
    skip = x if in_channels == channels else F.conv1d(x, block.skip.weight, block.skip.bias)
    torch.testing.assert_close(block(x, modulator), skip + hidden, atol=1e-4, rtol=1e-4)


def test_each_level_has_its_factor_fewer_frames_and_attention_sits_on_the_two_lowest():
    net = small(channels=[4, 8, 8, 8], factors=[1, 2, 3, 2])
    stages = seen_by([level.before for level in levels(net)], 0)
    attended = seen_by(attentions(net), 0)
    net(torch.randn(1, 3, 24), torch.rand(1), condition(1))
    assert [x.shape[2] for x in stages] == [24, 12, 4, 2]
    assert [x.shape[2] for x in attended] == [4, 2, 4]


def test_input_has_the_sine_and_cosine_of_every_frames_angle_and_zeros_after_the_end():
    net = small()
    seen = seen_by([net.input], 0)
    latent, angle = torch.randn(2, 3, 10), torch.rand(2, 10)
    net(latent, angle, condition(2))
    assert seen[0].shape == (2, 5, 12)
    expected = torch.cat([latent, angle.sin()[:, None], angle.cos()[:, None]], dim=1)
    torch.testing.assert_close(seen[0][..., :10], expected)
    assert not seen[0][..., 10:].any()


def test_every_block_is_modulated_by_the_mean_angle_embedding_and_the_pooled_condition():
    net, clips = small(), condition(2)
    modulators = seen_by([module for module in net.modules() if isinstance(module, ResidualBlock)], 1)
    angle = torch.rand(2, 10)
    net(torch.randn(2, 3, 10), angle, clips.drop(torch.tensor([True, False])))
    embedding = net.angle_embedding
    points = [sum(a.cos() * embedding.start + a.sin() * embedding.end for a in row) / 10 for row in angle]
    # Clips with tokens come first: clip 1, then the dropped clip 0.
    expected = torch.stack([embedding.mlp(points[1]) + clips.pooled[1], embedding.mlp(points[0])])
    assert len(modulators) == 5
    for modulator in modulators:
        torch.testing.assert_close(modulator, expected)


def test_tokens_lie_in_time_with_each_levels_frames():
    net = small()
    seen = seen_by([module.layer for module in attentions(net)], 3)
    net(torch.randn(1, 3, 10), torch.rand(1), condition(1, num_tokens=4))
    strides = [2, 6, 2]
    assert len(seen) == len(strides)
    for positions, stride in zip(seen, strides, strict=True):
        torch.testing.assert_close(positions, torch.tensor([(j + 0.5) * 10 / 4 / stride for j in range(4)]))


@pytest.mark.parametrize(("channels", "factors"), [([4, 8], [1]), ([], []), ([4, 8], [1, 0])])
def test_each_level_needs_a_factor(channels, factors):
    with pytest.raises(ValueError, match="give each level one of both"):
        small(channels=channels, factors=factors)
