"""Least squares, feature matching, hinge and R1 against sums by hand."""

import pytest
import torch

from melody_cm.interfaces import DiscriminatorOutput
from melody_cm.losses import HingeLoss, LeastSquaresLoss, gradient_penalty


def output(logits, *features):
    return DiscriminatorOutput(torch.tensor([logits]), [torch.tensor(values) for values in features])


REAL = [output([1.0, 0.5], [0.0, 2.0], [1.0]), output([0.0], [4.0])]
FAKE = [output([0.0, 0.5], [1.0, 0.0], [4.0]), output([3.0], [2.0])]


def test_the_discriminator_wants_ones_and_zeros():
    terms = LeastSquaresLoss().discriminator(REAL, FAKE)
    assert terms["real"].item() == pytest.approx((0 + 0.25) / 2 + 1)
    assert terms["fake"].item() == pytest.approx((0 + 0.25) / 2 + 9)


def test_the_generator_wants_ones_and_real_features():
    terms = LeastSquaresLoss(weight=0.5, feature_matching_weight=2.0).generator(REAL, FAKE)
    assert terms["adversarial"].item() == pytest.approx(0.5 * ((1 + 0.25) / 2 + 4))
    assert terms["feature_matching"].item() == pytest.approx(2 * (((1 + 2) / 2 + 3) / 2 + 2))
    assert set(LeastSquaresLoss(feature_matching_weight=0.0).generator(REAL, FAKE)) == {"adversarial"}


def test_features_of_real_music_are_targets_without_gradient():
    real, fake = (DiscriminatorOutput(torch.zeros(1, 1), [torch.full((3,), x, requires_grad=True)]) for x in (1.0, 2.0))
    LeastSquaresLoss().generator([real], [fake])["feature_matching"].backward()
    assert real.feature_maps[0].grad is None
    assert fake.feature_maps[0].grad.sum() == pytest.approx(20)


def test_only_a_loss_that_looks_at_real_outputs_asks_for_them():
    assert LeastSquaresLoss().compares
    assert not LeastSquaresLoss(feature_matching_weight=0.0).compares
    assert not HingeLoss().compares


def test_hinge_wants_margins_of_one_on_both_sides():
    real = [output([2.0, 0.5, -1.0]), output([0.0])]
    fake = [output([-2.0, -0.5, 1.0]), output([0.0])]
    terms = HingeLoss(r1_weight=0.0).discriminator(real, fake)
    assert terms["real"].item() == pytest.approx(((0 + 0.5 + 2) / 3 + 1) / 2)
    assert terms["fake"].item() == pytest.approx(((0 + 0.5 + 2) / 3 + 1) / 2)
    assert set(terms) == {"real", "fake"}


def test_a_hinged_generator_raises_its_logits_averaged_over_judges():
    terms = HingeLoss(weight=0.3).generator([], [output([2.0, -1.0, 5.0]), output([4.0])])
    assert terms["adversarial"].item() == pytest.approx(-0.3 * (2 + 4) / 2)
    summed = HingeLoss(weight=0.3, heads="sum").generator([], [output([2.0, -1.0, 5.0]), output([4.0])])
    assert summed["adversarial"].item() == pytest.approx(-0.3 * (2 + 4))


def quadratic(coefficients) -> DiscriminatorOutput:
    """Logits a x0^2 + x1 of two clips, one logit a clip."""
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    return DiscriminatorOutput((coefficients * features[:, :1] ** 2 + features[:, 1:]), [features])


def test_r1_is_the_squared_gradient_by_the_features_averaged_over_clips_and_judges():
    a = torch.tensor(0.5, requires_grad=True)
    first, second = (2 * 0.5 * 1) ** 2 + 1, (2 * 0.5 * 3) ** 2 + 1
    assert gradient_penalty(quadratic(a)).item() == pytest.approx((first + second) / 2)
    flat = quadratic(torch.tensor(0.0))
    terms = HingeLoss(r1_weight=0.1).discriminator([quadratic(a), flat], [output([0.0]), output([0.0])])
    assert terms["r1"].item() == pytest.approx(0.1 * ((first + second) / 2 + 1) / 2)
    (slope,) = torch.autograd.grad(terms["r1"], a)  # The mean over clips of 8 a x0^2, half of it for two judges.
    assert slope.item() == pytest.approx(0.1 * (8 * 0.5 * 1 + 8 * 0.5 * 9) / 2 / 2)
