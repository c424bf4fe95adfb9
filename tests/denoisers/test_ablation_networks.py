"""What the U-Nets of MeLoDy's ablation share: the dual-path denoiser's inputs, on other trunks."""

import copy

import pytest
import torch
from learning import assert_beats_the_best_predictor_of_single_numbers

from melody_cm.denoisers import LatentImageUNet, UNet1D
from melody_cm.diffusion import Guided
from melody_cm.interfaces import Conditioning

WIDTH = 16


def unet1d(**changes):
    arguments = {"latent_channels": 3, "condition_width": WIDTH, "channels": [16, 16, 32], "factors": [1, 2, 2]}
    return UNet1D(
        **{**arguments, "num_blocks": 1, "num_heads": 2, "feedforward_width": 24, "angle_width": 6, **changes}
    )


def latent_image(**changes):
    arguments = {"latent_channels": 3, "condition_width": WIDTH, "channels": [16, 32, 32], "layers_per_block": 1}
    return LatentImageUNet(**{**arguments, "head_width": 16, **changes})


def condition(batch, num_tokens=5, width=WIDTH):
    tokens = torch.randn(batch, num_tokens, width)
    return Conditioning(tokens, tokens.mean(1), None, torch.zeros(batch, dtype=torch.bool))


@pytest.fixture(params=[unet1d, latent_image], ids=lambda make: make.__name__)
def net(request):
    return request.param()


@pytest.mark.parametrize("length", [1, 7, 8, 33])
def test_any_length_works(net, length):
    latent = torch.randn(2, 3, length)
    assert net(latent, torch.rand(2, length), condition(2)).shape == latent.shape


def test_every_frames_angle_matters(net):
    latent, angle = torch.randn(1, 3, 21), torch.rand(1, 21, requires_grad=True)
    net(latent, angle, condition(1)).square().sum().backward()
    assert (angle.grad != 0).all()


def test_frames_know_which_of_them_has_which_angle(net):
    """The mean angle alone would not tell a clean past from a clean future."""
    latent, clips = torch.randn(1, 3, 24), condition(1)
    past = torch.cat([torch.zeros(1, 12), torch.ones(1, 12)], dim=1)
    assert (net(latent, past, clips) - net(latent, past.flip(1), clips)).abs().max() > 1e-3


def test_masked_tokens_do_not_matter(net):
    clips, latent, angle = condition(2), torch.randn(2, 3, 21), torch.rand(2)
    clips.mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    before = net(latent, angle, clips)
    clips.sequence[1, 2:] += 100
    torch.testing.assert_close(net(latent, angle, clips), before)
    clips.sequence[1, 1] += 1
    assert (net(latent, angle, clips)[1] - before[1]).abs().max() > 1e-5


@pytest.mark.parametrize("spoil", ["sequence", "pooled", "mask", "length"])
def test_a_dropped_clip_gives_the_same_whatever_its_condition(net, spoil):
    latent, angle = torch.randn(2, 3, 21), torch.rand(2)
    clips = condition(2).drop(torch.tensor([False, True]))
    before = net(latent, angle, clips)[1]
    clips.mask = torch.ones(2, 5, dtype=torch.bool)
    if spoil == "mask":
        clips.mask[1] = False
    elif spoil == "length":
        clips = condition(2, num_tokens=9).drop(torch.tensor([False, True]))
    else:
        getattr(clips, spoil)[1] = float("nan")
    torch.testing.assert_close(net(latent, angle, clips)[1], before, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("part", ["sequence", "pooled"])
def test_both_parts_of_the_condition_are_heard(net, part):
    latent, angle, clips = torch.randn(2, 3, 21), torch.rand(2), condition(2)
    before = net(latent, angle, clips)
    setattr(clips, part, getattr(clips, part).flip(0))
    assert ((net(latent, angle, clips) - before).abs().amax((1, 2)) > 1e-5).all()


def test_the_order_of_the_tokens_matters_to_the_one_that_has_positions():
    net, latent, angle, clips = unet1d(), torch.randn(1, 3, 24), torch.rand(1), condition(1)
    before = net(latent, angle, clips)
    clips.sequence = clips.sequence.flip(1)
    assert (net(latent, angle, clips) - before).abs().max() > 1e-5


def test_guidance_of_both_halves_of_a_batch_is_that_of_two_calls(net):
    latent, angle, clips = torch.randn(3, 3, 21), torch.rand(3, 21), condition(3)
    calls = []
    net.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    guided = Guided(net, 2.5)(latent, angle, clips)
    assert calls == [6]
    unconditional = net(latent, angle, clips.drop(torch.ones(3, dtype=torch.bool)))
    expected = 2.5 * net(latent, angle, clips) - 1.5 * unconditional
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-4)


def test_wrong_shapes_are_refused_with_both_numbers(net):
    clips, latent, angle = condition(2), torch.randn(2, 3, 21), torch.rand(2)
    with pytest.raises(ValueError, match=r"\(2, 4, 21\).*c = 3"):
        net(torch.randn(2, 4, 21), angle, clips)
    with pytest.raises(ValueError, match=r"\(2, 3, 21, 1\).*c = 3"):
        net(latent[..., None], angle, clips)
    with pytest.raises(ValueError, match=r"\(2, 20\).*21 frames"):
        net(latent, torch.rand(2, 20), clips)
    with pytest.raises(ValueError, match="width 8 does not fit 2 clips and width 16"):
        net(latent, angle, condition(2, width=8))
    with pytest.raises(ValueError, match="sequence of 3 clips"):
        net(latent, angle, condition(3))
    misshapen = [
        ("sequence", clips.sequence[:, 0], r"sequence of shape \(2, 16\) needs 3 axes"),
        ("sequence", clips.sequence[:, :0], r"sequence of shape \(2, 0, 16\)"),
        ("pooled", clips.sequence, r"pooled of shape .* needs 2 axes"),
        ("mask", torch.ones(2, 1, dtype=torch.bool), r"mask of shape \(2, 1\) does not fit, give \(2, \d+\)"),
        ("dropped", clips.dropped[:1], r"dropped of shape \(1,\) does not fit, give \(2,\)"),
    ]
    for name, value, message in misshapen:
        changed = copy.copy(clips)
        setattr(changed, name, value)  # The constructor would refuse it, in tests alone.
        with pytest.raises(ValueError, match=message):
            net(latent, angle, changed)
    with pytest.raises(ValueError, match=r"0 frames .* at least 1"):
        net(latent[..., :0], angle, clips)
    clips.pooled = None
    with pytest.raises(ValueError, match="pooled is None"):
        net(latent, angle, clips)


def test_training_beats_the_best_predictor_of_single_numbers(net):
    assert_beats_the_best_predictor_of_single_numbers(net, condition(8))
