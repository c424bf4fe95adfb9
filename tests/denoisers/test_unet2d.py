from pathlib import Path

import pytest
import torch
import yaml

from melody_cm.denoisers import UNet2D
from melody_cm.interfaces import Conditioning

PRESET = Path(__file__).resolve().parents[2] / "configs/unet/unet2d.yaml"


def small(**changes):
    arguments = {"latent_channels": 2, "condition_width": 6, "channels": [16, 32], "layers_per_block": 1}
    return UNet2D(**{**arguments, "attention_levels": [1], "head_width": 16, **changes})


def condition(batch, width=6):
    return Conditioning(None, torch.randn(batch, width), None, torch.zeros(batch, dtype=torch.bool))


def attention_layers(net):
    return {name.split(".attentions")[0] for name, _ in net.unet.named_modules() if ".attentions." in name}


def test_paper_size_is_musicldms():
    with PRESET.open(encoding="utf-8") as file, torch.device("meta"):
        net = UNet2D(**yaml.safe_load(file)["init_args"])
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(185.0e6, rel=0.005)
    assert attention_layers(net) == {f"down_blocks.{i}" for i in (1, 2, 3)} | {f"up_blocks.{i}" for i in (0, 1, 2)} | {
        "mid_block"
    }
    heads = [block.attentions[0].transformer_blocks[0].attn1.heads for block in net.unet.down_blocks[1:]]
    assert heads == [8, 12, 20]


def test_attention_sits_where_it_is_asked_for():
    assert attention_layers(small(attention_levels=[0])) == {"down_blocks.0", "up_blocks.1", "mid_block"}


def test_condition_and_timestep_matter_row_by_row():
    net, latent, timestep, clips = small(), torch.randn(2, 2, 8, 4), torch.tensor([10.0, 500.0]), condition(2)
    before = net(latent, timestep, clips)
    clips.pooled[0] += 1
    after = net(latent, timestep, clips)
    assert (after[0] - before[0]).abs().max() > 1e-5
    torch.testing.assert_close(after[1], before[1])
    later = net(latent, timestep + torch.tensor([0.0, 100.0]), clips)
    torch.testing.assert_close(later[0], after[0])
    assert (later[1] - after[1]).abs().max() > 1e-5


def test_dropped_equals_the_zero_vector():
    net, latent, timestep, clips = small(), torch.randn(2, 2, 8, 4), torch.rand(2) * 999, condition(2)
    dropped = net(latent, timestep, clips.drop(torch.tensor([True, True])))
    clips.pooled.zero_()
    assert torch.equal(net(latent, timestep, clips), dropped)


def test_time_is_the_first_axis_after_the_channels_and_any_multiple_will_do():
    assert small()(torch.randn(1, 2, 10, 2), torch.zeros(1), condition(1)).shape == (1, 2, 10, 2)


def test_wrong_shapes_are_refused_with_both_numbers():
    net, latent, timestep, clips = small(), torch.randn(2, 2, 8, 4), torch.zeros(2), condition(2)
    with pytest.raises(ValueError, match="9 frames and 4 bins is not divisible by 2"):
        net(torch.randn(2, 2, 9, 4), timestep, clips)
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 4\).*c = 2"):
        net(torch.randn(2, 3, 8, 4), timestep, clips)
    with pytest.raises(ValueError, match="3 timesteps for 2 clips"):
        net(latent, torch.zeros(3), clips)
    with pytest.raises(ValueError, match=r"\(2, 5\), but this network needs \(2, 6\)"):
        net(latent, timestep, condition(2, width=5))
    clips.pooled = None
    with pytest.raises(ValueError, match="pooled is None"):
        net(latent, timestep, clips)


def test_impossible_levels_are_refused():
    with pytest.raises(ValueError, match=r"attention_levels \[2\] do not exist: 2 levels"):
        small(attention_levels=[2])
    with pytest.raises(ValueError, match=r"channels \[40\] cannot be cut into heads of 16"):
        small(channels=[16, 40])
