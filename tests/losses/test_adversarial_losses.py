"""Least squares and feature matching against sums by hand."""

import pytest
import torch

from melody_cm.interfaces import Judgement
from melody_cm.losses import LeastSquaresLoss


def judgement(logits, *features):
    return Judgement(torch.tensor([logits]), [torch.tensor(values) for values in features])


REAL = [judgement([1.0, 0.5], [0.0, 2.0], [1.0]), judgement([0.0], [4.0])]
FAKE = [judgement([0.0, 0.5], [1.0, 0.0], [4.0]), judgement([3.0], [2.0])]


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
    real, fake = (Judgement(torch.zeros(1, 1), [torch.full((3,), x, requires_grad=True)]) for x in (1.0, 2.0))
    LeastSquaresLoss().generator([real], [fake])["feature_matching"].backward()
    assert real.features[0].grad is None
    assert fake.features[0].grad.sum() == pytest.approx(20)
