import pytest
import torch
import torch.nn.functional as F
from transformers import Wav2Vec2ConformerForPreTraining

from melody_cm.encoders import MaskedPrediction, Wav2Vec2ConformerEncoder
from melody_cm.encoders.masked_prediction import GumbelQuantizer, draw_mask, draw_negatives
from melody_cm.encoders.semantic import pad_for_frames

BATCH, FRAMES, NEGATIVES, GROUPS, ENTRIES = 3, 30, 7, 2, 6


def everything_real(length: int = FRAMES, batch: int = BATCH) -> torch.Tensor:
    return torch.ones(batch, length, dtype=torch.bool)


def test_hidden_are_the_spans_that_begin_at_the_smallest_numbers():
    starts, real = torch.rand(BATCH, FRAMES), everything_real()
    real[1, 20:] = False
    mask = draw_mask(starts, real, share=0.1, span=4)
    for row in range(BATCH):
        expected = [False] * FRAMES
        for begin in sorted(range(FRAMES), key=lambda frame: float(starts[row, frame]))[:3]:
            for frame in range(begin, min(begin + 4, FRAMES)):
                expected[frame] = bool(real[row, frame])
        assert mask[row].tolist() == expected


def test_about_half_of_a_clip_is_hidden():
    mask = draw_mask(torch.rand(200, 250), everything_real(250, 200), share=0.08, span=8)
    assert 0.45 < float(mask.float().mean()) < 0.52


def test_negatives_are_other_hidden_frames_of_the_clip_as_in_a_slow_search():
    mask = draw_mask(torch.rand(BATCH, FRAMES), everything_real(), share=0.1, span=3)
    uniform = torch.rand(BATCH, FRAMES, NEGATIVES)
    negatives = draw_negatives(mask, uniform)
    for row in range(BATCH):
        hidden = mask[row].nonzero().flatten().tolist()
        for frame in hidden:
            others = [other for other in hidden if other != frame]
            expected = [others[int(number * len(others))] for number in uniform[row, frame].tolist()]
            assert negatives[row, frame].tolist() == expected


def test_negatives_reach_every_other_frame_equally_often():
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, [0, 2, 5]] = True
    negatives = draw_negatives(mask, torch.rand(1, 6, 4000))
    for frame, others in {0: [2, 5], 2: [0, 5], 5: [0, 2]}.items():
        counts = torch.bincount(negatives[0, frame], minlength=6)
        assert counts.nonzero().flatten().tolist() == others
        assert 1800 < int(counts[others[0]]) < 2200


def pair() -> tuple[Wav2Vec2ConformerEncoder, MaskedPrediction, Wav2Vec2ConformerForPreTraining]:
    """Our encoder and heads, and transformers' model with the same weights."""
    encoder = Wav2Vec2ConformerEncoder(8000, 25.0, 16, 2, 2, 32, conv_width=8, depthwise_kernel=5)
    heads = MaskedPrediction(16, 8, GROUPS, ENTRIES, code_width=10, width=12)
    config = encoder.body.config
    config.codevector_dim, config.proj_codevector_dim = 10, 12
    config.num_codevector_groups, config.num_codevectors_per_group = GROUPS, ENTRIES
    config.feat_quantizer_dropout, config.num_negatives = 0.0, NEGATIVES
    theirs = Wav2Vec2ConformerForPreTraining(config)
    missing = theirs.wav2vec2_conformer.load_state_dict(encoder.body.state_dict(), strict=False).missing_keys
    assert {name.split(".")[1] for name in missing} == {"pos_conv_embed"}
    theirs.project_hid.load_state_dict(heads.project_hid.state_dict())
    theirs.project_q.load_state_dict(heads.project_q.state_dict())
    theirs.quantizer.weight_proj.load_state_dict(heads.quantizer.weight_proj.state_dict())
    theirs.quantizer.codevectors.data = heads.quantizer.codevectors.data.reshape(1, GROUPS * ENTRIES, 5).clone()
    return encoder, heads, theirs


@pytest.mark.parametrize("training", [False, True])
def test_the_losses_and_gradients_are_those_of_transformers(monkeypatch, training):
    encoder, heads, theirs = (module.train(training) for module in pair())
    waveform, noise = torch.randn(BATCH, 1, FRAMES * 320), torch.randn(BATCH, FRAMES, GROUPS, ENTRIES)
    mask = draw_mask(torch.rand(BATCH, FRAMES), everything_real(), share=0.1, span=4)
    negatives = draw_negatives(mask, torch.rand(BATCH, FRAMES, NEGATIVES))

    def with_our_noise(logits, tau, hard):
        soft = ((logits + noise.reshape(logits.shape)) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), logits.shape[-1]) + (soft - soft.detach())

    monkeypatch.setattr(F, "gumbel_softmax", with_our_noise)
    theirs.set_gumbel_temperature(1.5)
    padded = pad_for_frames(waveform, encoder.strides, encoder.kernels, 320)[:, 0]
    clips = torch.arange(BATCH)[:, None, None] * FRAMES
    expected = theirs(padded, mask_time_indices=mask, sampled_negative_indices=negatives + clips)
    found = heads(*encoder.masked(waveform, mask)[:2], mask, negatives, noise if training else None, 1.5)
    count = mask.sum()
    torch.testing.assert_close(found.contrastive, expected.contrastive_loss / count)
    torch.testing.assert_close(found.perplexity, expected.codevector_perplexity)
    (found.contrastive - 0.1 * found.perplexity / (GROUPS * ENTRIES)).backward()
    (expected.loss / count).backward()
    ours = dict(encoder.body.named_parameters())
    for name, parameter in theirs.wav2vec2_conformer.named_parameters():
        if "pos_conv_embed" not in name:
            torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)
    torch.testing.assert_close(heads.project_q.weight.grad, theirs.project_q.weight.grad, rtol=1e-3, atol=1e-6)
    if training:
        mine, other = heads.quantizer.codevectors.grad, theirs.quantizer.codevectors.grad
        torch.testing.assert_close(mine, other.view_as(mine), rtol=1e-3, atol=1e-6)
        weights = heads.quantizer.weight_proj.weight.grad, theirs.quantizer.weight_proj.weight.grad
        torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-6)


def heads_of_equals() -> MaskedPrediction:
    """Heads that compare the features themselves: one group, an entry for each of four directions."""
    heads = MaskedPrediction(4, 4, groups=1, entries=4, code_width=4, width=4)
    for layer in (heads.project_hid, heads.project_q, heads.quantizer.weight_proj):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    heads.quantizer.codevectors.data = torch.eye(4)[None]
    return heads


def test_accuracy_is_the_share_of_hidden_frames_that_are_nearest_to_themselves():
    features = 5 * torch.eye(4)[None]
    mask, negatives = torch.tensor([[True, True, True, False]]), torch.tensor([[[1, 2], [0, 2], [0, 1], [0, 0]]])
    context = features.clone()
    context[0, 1] = features[0, 0]
    found = heads_of_equals()(context, features, mask, negatives)
    assert float(found.accuracy) == pytest.approx(2 / 3)
    assert float(found.perplexity) == pytest.approx(3.0)
    right, wrong = 10 - torch.tensor([10.0, 0, 0]).logsumexp(0), 0 - torch.tensor([0.0, 10, 0]).logsumexp(0)
    assert float(found.contrastive) == pytest.approx(float(-(2 * right + wrong) / 3), rel=1e-4)


def test_a_negative_with_the_same_codes_is_no_negative_and_a_collapsed_quantizer_is_never_right():
    features = 5 * torch.eye(4)[[0, 0, 1, 0]][None]
    mask, negatives = torch.tensor([[True, True, True, False]]), torch.tensor([[[1, 2], [0, 2], [0, 1], [0, 0]]])
    found = heads_of_equals()(features, features, mask, negatives)
    # Frames 0 and 1 have one true negative each, frame 2 has two.
    one, two = torch.tensor([10.0, 0]).logsumexp(0) - 10, torch.tensor([10.0, 0, 0]).logsumexp(0) - 10
    assert float(found.contrastive) == pytest.approx(float((2 * one + two) / 3), rel=1e-2)
    collapsed = heads_of_equals()(features, 0 * features, mask, negatives)
    assert float(collapsed.accuracy) == 0.0
    assert float(collapsed.perplexity) == pytest.approx(1.0)


def test_clips_with_fewer_than_two_hidden_frames_do_not_count():
    heads = heads_of_equals()
    features, mask = torch.randn(2, 4, 4), torch.tensor([[True, True, True, False], [False, True, False, False]])
    negatives = draw_negatives(mask, torch.rand(2, 4, 3))
    both = heads(features, features, mask, negatives)
    alone = heads(features[:1], features[:1], mask[:1], negatives[:1])
    for mine, other in zip(both, alone, strict=True):
        torch.testing.assert_close(mine, other)
    none = heads(features[1:], features[1:], mask[1:], negatives[1:])
    assert [float(value) for value in none[:2]] == [0.0, 0.0]
    assert bool(none.perplexity.isfinite())


def test_a_quantizer_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"width 7 must be a multiple of its groups 2"):
        GumbelQuantizer(4, 2, 3, 7)
