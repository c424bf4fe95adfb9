"""Heads on features: what they hear, what they are told, where gradients go; a head against a loop by hand."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from melody_cm.diffusion import LinearAngles, diffuse
from melody_cm.discriminators import FeatureDiscriminator
from melody_cm.discriminators.features import Head
from melody_cm.interfaces import Conditioning, DiscriminatorContext, DiscriminatorOutput, FeatureNetwork, Network
from melody_cm.losses import HingeLoss, gradient_penalty
from melody_cm.randomness import Draws


class ToyFeatures(Network, FeatureNetwork):
    """Two layers of a frozen network; remembers what it heard."""

    def __init__(self):
        super().__init__()
        self.feature_channels = [6, 4]
        self.first, self.second = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 4, 1)
        self.requires_grad_(False)
        self.heard = []

    def features(self, noisy_latent, angle, conditioning):
        self.heard.append((noisy_latent, angle))
        shallow = self.first(noisy_latent).tanh()
        return [shallow, self.second(shallow)]


def discriminator(**kwargs) -> FeatureDiscriminator:
    return FeatureDiscriminator(ToyFeatures(), LinearAngles(), condition_width=5, width=8, **kwargs)


def context(latent, from_noise=False) -> DiscriminatorContext:
    batch = len(latent)
    pooled = torch.randn(batch, 5, generator=torch.Generator().manual_seed(4))
    conditioning = Conditioning(None, pooled, None, torch.zeros(batch, dtype=torch.bool))
    draws = Draws(3, [0] * batch, list(range(batch)))
    return DiscriminatorContext(conditioning, latent, torch.full((batch,), from_noise), draws)


def test_real_and_generated_samples_are_heard_under_the_same_noise_of_the_schedules_angles():
    judge, real, fake = discriminator(), torch.randn(4, 3, 20), torch.randn(4, 3, 20)
    told = context(real)
    judge(real, told)
    judge(fake, told)
    angle = LinearAngles().training_angles(told.draws.uniform("discriminator_angle"))
    noise = told.draws.normal("discriminator_noise", (3, 20))
    judge(fake, context(real))
    # What the judges of a fake are told of the real latent is kept for the step; without it the latent is heard again.
    for (heard, at), sample in zip(judge.features.heard, (real, fake, fake, real), strict=True):
        torch.testing.assert_close(heard, diffuse(sample, noise, angle))
        assert torch.equal(at, angle)
    assert len(set(angle.tolist())) == 4


def test_a_head_is_convolutions_around_a_ring_compared_with_the_condition():
    head = Head(6, 9, 8, 16).eval()
    features, condition = torch.randn(1, 6, 12), torch.randn(1, 9)
    weight = [module.weight for module in (head.first[0], head.second[0], head.output)]
    bias = [module.bias for module in (head.first[0], head.second[0], head.output)]
    hidden = activated(weight[0][:, :, 0] @ features[0] + bias[0][:, None], head.first[1])
    ring = torch.zeros(8, 12)
    for position in range(12):
        for tap in range(9):
            ring[:, position] += weight[1][:, :, tap] @ hidden[:, (position + tap - 4) % 12]
    hidden = (hidden + activated(ring + bias[1][:, None], head.second[1])) / math.sqrt(2)
    projected = weight[2][:, :, 0] @ hidden + bias[2][:, None]
    wanted = head.condition.weight @ condition[0] + head.condition.bias
    torch.testing.assert_close(head(features, condition)[0], projected.T @ wanted / 4)


def activated(x, norm):
    """Normalized over each of the eight groups of one channel here, then the leaky rectifier, by hand."""
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    x = x * norm.weight[:, None] + norm.bias[:, None]
    return torch.maximum(x, 0.2 * x)


def test_head_layers_have_spectral_norm_one():
    head = Head(6, 9, 8, 16)
    for _ in range(50):
        head(torch.randn(2, 6, 12), torch.randn(2, 9))
    for convolution in (head.first[0], head.second[0], head.output):
        assert torch.linalg.svdvals(convolution.weight.flatten(1))[0].item() == pytest.approx(1, abs=1e-2)


def test_there_is_one_judge_a_layer_with_a_logit_a_position():
    outputs = discriminator()(latent := torch.randn(2, 3, 20), context(latent))
    assert [output.logits.shape for output in outputs] == [(2, 20), (2, 20)]
    assert [output.feature_maps[0].shape for output in outputs] == [(2, 6, 20), (2, 4, 20)]


def logits(judge, sample, told):
    return torch.stack([output.logits for output in judge(sample, told)])


def test_judges_are_told_the_conditioning_and_what_is_real_but_not_where_there_was_noise_alone():
    judge, fake = discriminator().eval(), torch.randn(2, 3, 20)
    first, second = torch.randn(2, 3, 20), torch.randn(2, 3, 20)
    told = context(first)
    once = logits(judge, fake, told)
    assert not torch.allclose(logits(judge, fake, context(second)), once)
    blind = [logits(judge, fake, context(reference, from_noise=True)) for reference in (first, second)]
    assert torch.equal(blind[0], blind[1])
    conditioning = Conditioning(None, torch.randn(2, 5), None, told.conditioning.dropped)
    other = replace(told, conditioning=conditioning, kept={})
    assert not torch.allclose(logits(judge, fake, other), once)


def test_gradients_reach_a_generated_sample_through_the_frozen_network_but_never_its_weights():
    judge, fake = discriminator(), torch.randn(2, 3, 20, requires_grad=True)
    terms = HingeLoss().generator([], judge(fake, context(torch.randn(2, 3, 20))))
    terms["adversarial"].backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.features.parameters())


def test_the_discriminators_gradient_ends_at_the_input_of_the_heads():
    judge, real = discriminator(), torch.randn(2, 3, 20)
    told = context(real)
    outputs = judge(real, told)
    assert all(output.feature_maps[0].is_leaf and output.feature_maps[0].requires_grad for output in outputs)
    terms = HingeLoss(r1_weight=1.0).discriminator(outputs, judge(torch.randn(2, 3, 20), told))
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in judge.heads.parameters())
    assert all(p.grad is None for p in judge.features.parameters())


def test_r1_is_the_gradient_of_a_head_by_finite_differences():
    head = Head(3, 4, 8, 8).eval().double()
    features, condition = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    numeric = torch.zeros_like(features)
    with torch.no_grad():
        for place in range(features[0].numel()):
            step = F.one_hot(torch.tensor(place), features[0].numel()).view(3, 6) * 1e-5
            above, below = (head(features + side, condition).sum(1) for side in (step, -step))
            numeric.flatten(1)[:, place] = (above - below) / 2e-5
    leaf = features.clone().requires_grad_()
    penalty = gradient_penalty(DiscriminatorOutput(head(leaf, condition), [leaf]))
    assert penalty.item() == pytest.approx(numeric.square().flatten(1).sum(1).mean().item(), rel=1e-4)


def test_what_does_not_fit_is_refused():
    featureless = ToyFeatures()
    featureless.feature_channels = []
    with pytest.raises(ValueError, match="no features"):
        FeatureDiscriminator(featureless, LinearAngles(), 5)
    with pytest.raises(ValueError, match="width 12"):
        FeatureDiscriminator(ToyFeatures(), LinearAngles(), 5, width=12)
    latent = torch.randn(2, 3, 20)
    with pytest.raises(ValueError, match="context"):
        discriminator()(latent)
    wide = FeatureDiscriminator(ToyFeatures(), LinearAngles(), 7, width=8)
    with pytest.raises(ValueError, match="width 5 but the discriminator takes 7"):
        wide(latent, context(latent))
