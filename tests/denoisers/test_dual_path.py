from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from learning import assert_beats_the_best_predictor_of_single_numbers

from melody_cm.denoisers import DualPathDenoiser
from melody_cm.denoisers.dual_path import merge_segments, merge_strides, repeat_segments
from melody_cm.interfaces import Conditioning
from melody_cm.nn import MLP
from melody_cm.signal.frames import segment

PRESET = Path(__file__).resolve().parents[2] / "configs/denoiser/dual_path.yaml"


def small(**changes):
    arguments = {"latent_channels": 3, "width": 16, "num_blocks": 2, "segment_length": 8, "num_heads": 2}
    return DualPathDenoiser(**{**arguments, "feedforward_width": 20, "angle_width": 6, **changes})


def condition(batch, width=16, num_tokens=5):
    tokens = torch.randn(batch, num_tokens, width)
    return Conditioning(tokens, tokens.mean(1), None, torch.zeros(batch, dtype=torch.bool))


def test_merged_columns_form_an_hourglass():
    assert [64 // stride for stride in merge_strides(8)] == [64, 32, 16, 8, 8, 16, 32, 64]
    assert [32 // stride for stride in merge_strides(4)] == [32, 16, 16, 32]
    assert merge_strides(3) == [1, 2, 1]


@pytest.mark.parametrize(("length", "stride"), [(8, 1), (8, 2), (8, 4), (10, 4)])
def test_merging_is_average_pooling_with_half_stride(length, stride):
    hidden = torch.randn(2, length, 3, 5)
    count = -(-length // stride)
    columns = F.pad(hidden.permute(0, 2, 3, 1).flatten(0, 1), (0, (count + 1) * stride - length))
    pooled = F.avg_pool1d(columns, 2 * stride, stride).unflatten(0, (2, 3)).permute(0, 3, 1, 2)
    merged = merge_segments(hidden, stride)
    assert merged.shape == (2, count, 3, 5)
    torch.testing.assert_close(merged, pooled)


def test_repeating_gives_each_column_back_its_place():
    merged = torch.randn(1, 3, 2, 4)
    repeated = repeat_segments(merged, 4, 10)
    assert repeated.shape == (1, 10, 2, 4)
    for k in range(10):
        assert torch.equal(repeated[:, k], merged[:, k // 4])


def test_paper_latent_becomes_80_segments_of_64_frames():
    net = small(segment_length=64)
    shapes = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    net(torch.randn(1, 3, 2500), torch.rand(1), condition(1))
    assert shapes == [(1, 64, 80, 16)] * 2


def test_paper_size_has_the_papers_parameters(capsys):
    with PRESET.open(encoding="utf-8") as file:
        preset = yaml.safe_load(file)
    with torch.device("meta"):
        denoiser = sum(p.numel() for p in DualPathDenoiser(**preset["init_args"]).parameters())
        width = preset["init_args"]["width"]
        conditioner = 1024 * width + sum(p.numel() for p in MLP(width, width).parameters())
    with capsys.disabled():
        print(f"\ndenoiser {denoiser / 1e6:.2f} M, semantic conditioner {conditioner / 1e6:.2f} M parameters")
    assert denoiser + conditioner == pytest.approx(296.6e6, rel=0.005)


def test_modulators_take_the_angle_of_their_segments_frame_and_the_pooled_condition():
    net, clips = small(), condition(2)
    angle = torch.rand(2, 21)
    modulators = []
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: modulators.append(inputs[1]))
    net(torch.randn(2, 3, 21), angle, clips.drop(torch.tensor([True, False])))
    count = 7  # ceil(2 * 21 / 8) + 1
    assert modulators[0].shape == (2, count, 16)
    for s in range(count):
        embedded = net.angle_embedding(angle[:, s * 21 // count])
        # Clips with tokens come first: clip 1, then the dropped clip 0.
        torch.testing.assert_close(modulators[0][0, s], embedded[1] + clips.pooled[1])
        torch.testing.assert_close(modulators[0][1, s], embedded[0])


@pytest.mark.parametrize(("length", "num_tokens"), [(21, 14), (250, 25), (2500, 250)])
def test_tokens_lie_in_time_with_the_segments(length, num_tokens):
    """A token sits between the two segments whose centres, measured on the frames that they hold, enclose it."""
    net, frames = small(), torch.arange(length, dtype=torch.float32)[None, :, None] + 0.5
    held, present = segment(frames, 8)[0, ..., 0], segment(torch.ones_like(frames), 8)[0, ..., 0]
    inner = present.all(1)
    centres = held.mean(1)
    seen = []
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    net(torch.randn(1, 3, length), torch.rand(1), condition(1, num_tokens=num_tokens))
    times = (torch.arange(num_tokens) + 0.5) * length / num_tokens  # In frames.
    whole = inner.nonzero()[:, 0]  # The first and the last segments hold padding.
    expected = np.interp(times, centres[whole], whole.float())
    within = (times > centres[whole[0]]) & (times < centres[whole[-1]])
    assert within.sum() > num_tokens // 2
    np.testing.assert_allclose(seen[0].positions[within], expected[within], atol=1e-3)


def test_one_angle_a_clip_equals_the_same_angle_for_all_frames():
    net, clips = small(), condition(2)
    latent, angle = torch.randn(2, 3, 21), torch.rand(2)
    torch.testing.assert_close(net(latent, angle, clips), net(latent, angle[:, None].expand(2, 21), clips))


def test_every_frames_angle_matters():
    net, clips = small(), condition(1)
    latent, angle = torch.randn(1, 3, 21), torch.rand(1, 21, requires_grad=True)
    net(latent, angle, clips).square().sum().backward()
    assert (angle.grad != 0).all()


def test_masked_tokens_do_not_matter():
    net, clips = small(), condition(2)
    latent, angle = torch.randn(2, 3, 21), torch.rand(2)
    clips.mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    before = net(latent, angle, clips)
    clips.sequence[1, 2:] += 100
    torch.testing.assert_close(net(latent, angle, clips), before)
    clips.sequence[1, 1] += 1
    assert (net(latent, angle, clips)[1] - before[1]).abs().max() > 1e-5


@pytest.mark.parametrize("length", [1, 7, 8, 33])
def test_any_length_works(length):
    latent = torch.randn(2, 3, length)
    assert small()(latent, torch.rand(2, length), condition(2)).shape == latent.shape


@pytest.mark.parametrize("segment_length", [7, 0])
def test_odd_segments_are_refused(segment_length):
    with pytest.raises(ValueError, match=f"segment_length {segment_length} must be even"):
        small(segment_length=segment_length)


def test_wrong_shapes_are_refused_with_both_numbers():
    net, clips, latent, angle = small(), condition(2), torch.randn(2, 3, 21), torch.rand(2)
    with pytest.raises(ValueError, match=r"\(2, 4, 21\).*c = 3"):
        net(torch.randn(2, 4, 21), angle, clips)
    with pytest.raises(ValueError, match=r"\(2, 20\).*21 frames"):
        net(latent, torch.rand(2, 20), clips)
    with pytest.raises(ValueError, match="width 8 does not fit 2 clips and width 16"):
        net(latent, angle, condition(2, width=8))
    with pytest.raises(ValueError, match="sequence of 3 clips"):
        net(latent, angle, condition(3))
    clips.sequence = None
    with pytest.raises(ValueError, match="sequence is None"):
        net(latent, angle, clips)


def test_training_beats_the_best_predictor_of_single_numbers():
    net = small(width=32, num_heads=4, feedforward_width=48)
    assert_beats_the_best_predictor_of_single_numbers(net, condition(8, width=32))


def test_checkpointing_runs_each_block_again_for_the_same_gradient():
    networks = [small(num_blocks=4), small(num_blocks=4, checkpointing=True)]
    networks[1].load_state_dict(networks[0].state_dict())
    latent, angle, given = torch.randn(2, 3, 40), torch.rand(2), condition(2)
    given.dropped[0] = True
    found = []
    for network in networks:
        calls = []
        network.blocks[1].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        heard = latent.clone().requires_grad_()
        loss = network(heard, angle, given).square().sum()
        loss = loss + sum(each.square().mean() for each in network.features(heard, angle, given))
        gradients = torch.autograd.grad(loss, [heard, *network.parameters()])
        with torch.no_grad():
            network(latent, angle, given)
        found.append((len(calls), loss, gradients))
    (plain, loss, gradients), (again, same_loss, same_gradients) = found
    assert (plain, again) == (3, 5)
    assert torch.equal(loss, same_loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, same_gradients, strict=True))
