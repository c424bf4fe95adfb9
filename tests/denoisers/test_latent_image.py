import pytest
import torch

from melody_cm.denoisers import LatentImageUNet
from melody_cm.interfaces import Conditioning

WIDTH = 8


def small(**changes):
    arguments = {"latent_channels": 3, "condition_width": WIDTH, "channels": [8, 16, 16], "layers_per_block": 1}
    return LatentImageUNet(**{**arguments, "head_width": 8, **changes})


def condition(batch):
    tokens = torch.randn(batch, 5, WIDTH)
    return Conditioning(tokens, tokens.mean(1), None, torch.zeros(batch, dtype=torch.bool))


def body_inputs(net, *arguments):
    seen = []
    handle = net.unet.register_forward_pre_hook(
        lambda _, positional, named: seen.append((positional, named)), with_kwargs=True
    )
    net(*arguments)
    handle.remove()
    return seen[0]


def test_the_image_is_the_latent_with_two_colours_of_angles_in_a_frame_of_zeros():
    net, latent, angle = small(), torch.randn(2, 3, 10), torch.rand(2, 10)
    image = body_inputs(net, latent, angle, condition(2))[0][0]
    assert image.shape == (2, 3, 4, 12)
    assert torch.equal(image[:, 0, :3, :10], latent)
    for c in range(3):
        assert torch.equal(image[:, 1, c, :10], angle.sin())
        assert torch.equal(image[:, 2, c, :10], angle.cos())
    assert not image[:, :, 3:].any()
    assert not image[..., 10:].any()


@pytest.mark.parametrize("per_frame", [True, False])
def test_the_timestep_is_the_mean_angle(per_frame):
    angle = torch.tensor([[0.0, torch.pi / 2], [torch.pi / 4] * 2]) if per_frame else torch.tensor([0.0, torch.pi / 2])
    (_, timestep), _ = body_inputs(small(), torch.randn(2, 3, 2), angle, condition(2))
    torch.testing.assert_close(timestep, torch.tensor([500.0, 500.0] if per_frame else [0.0, 1000.0]))


def test_a_dropped_clip_is_given_zeros_and_no_mask():
    clips = condition(2).drop(torch.tensor([False, True]))
    clips.mask = torch.tensor([[True, True, False, False, False]] * 2)
    _, named = body_inputs(small(), torch.randn(2, 3, 8), torch.rand(2), clips)
    assert torch.equal(named["encoder_hidden_states"][0], clips.sequence[0])
    assert torch.equal(named["class_labels"][0], clips.pooled[0])
    assert not named["encoder_hidden_states"][1].any()
    assert not named["class_labels"][1].any()
    assert named["encoder_attention_mask"].tolist() == [[True, True, False, False, False], [True] * 5]


def test_attention_sits_on_the_two_lowest_levels_and_in_the_middle():
    net = small(channels=[8, 8, 16, 16])
    found = {name.split(".attentions")[0] for name, _ in net.unet.named_modules() if ".attentions." in name}
    assert found == {"down_blocks.2", "down_blocks.3", "mid_block", "up_blocks.0", "up_blocks.1"}
    heads = [block.attentions[0].transformer_blocks[0].attn2.heads for block in net.unet.down_blocks[2:]]
    assert heads == [2, 2]


@pytest.mark.parametrize("channels", [[16], [8, 12, 16], [8, 16, 12]])
def test_channels_must_suit_levels_and_heads(channels):
    with pytest.raises(ValueError, match=r"multiples of head_width 8"):
        small(channels=channels)
