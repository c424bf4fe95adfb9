"""Residual quantization and how its codebooks learn, against loops by hand."""

import numpy as np
import pytest
import torch

from melody_cm.autoencoders import quantizer as module
from melody_cm.autoencoders.quantizer import ResidualQuantizer


def made(num_codebooks=3, codebook_size=5, width=4, decay=0.9) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(width, num_codebooks, codebook_size, decay)
    for level, layer in enumerate(quantizer.layers.layers):
        layer._codebook.embed.normal_(std=0.5**level)
    return quantizer


def books(quantizer) -> np.ndarray:
    return quantizer.layers.codebooks.double().numpy().copy()


def test_codes_and_sums_are_those_of_a_loop():
    quantizer, features = made(), torch.randn(2, 7, 4)
    codes, residual = quantizer.codes(features), features.double().numpy().copy()
    sums = quantizer.partial_sums(codes)
    total = np.zeros_like(residual)
    for level, book in enumerate(books(quantizer)):
        nearest = ((residual[:, :, None] - book) ** 2).sum(-1).argmin(-1)
        assert np.array_equal(codes[:, level].numpy(), nearest)
        residual, total = residual - book[nearest], total + book[nearest]
        np.testing.assert_allclose(sums[level].numpy(), total, atol=1e-6)
    assert len({tuple(code) for code in codes.transpose(1, 2).flatten(0, 1).tolist()}) > 5


def test_what_the_first_codebooks_give_does_not_depend_on_the_others():
    quantizer, features = made(), torch.randn(2, 9, 4)
    codes = quantizer.codes(features)
    sums = quantizer.partial_sums(codes)
    assert torch.equal(quantizer.partial_sums(codes[:, :2]), sums[:2])
    quantizer.layers.layers[2]._codebook.embed.add_(1.0)
    again = quantizer.codes(features)
    assert torch.equal(again[:, :2], codes[:, :2])
    assert not torch.equal(again[:, 2], codes[:, 2])


def test_codes_stay_the_same_in_training_mode_and_under_half_precision():
    quantizer, features = made().train(), torch.randn(2, 30, 4)
    before, codes = books(quantizer), quantizer.codes(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.codes(features), codes)
    assert np.array_equal(books(quantizer), before)
    assert not quantizer.layers.training


def test_codes_learn_the_running_mean_of_their_vectors(monkeypatch):
    monkeypatch.setattr(module, "DEAD_SHARE", 1e-9)  # Codes without any vector have no mean, and move all the same.
    quantizer, decay = made(decay=0.9), 0.9
    counts, sums = np.zeros((3, 5)), np.zeros((3, 5, 4))
    for step in range(3):
        features = torch.randn(200, 4)
        expected, residual = books(quantizer), features.double().numpy().copy()
        for level, book in enumerate(expected.copy()):
            nearest = ((residual[:, None] - book) ** 2).sum(-1).argmin(-1)
            hits = np.eye(5)[nearest]
            counts[level] = decay * counts[level] + (1 - decay) * hits.sum(0)
            sums[level] = decay * sums[level] + (1 - decay) * hits.T @ residual
            expected[level] = sums[level] / counts[level][:, None]
            residual -= book[nearest]
        quantizer.learn(features, seed=step)
        np.testing.assert_allclose(books(quantizer), expected, rtol=2e-3, atol=1e-4)


def test_dead_codes_move_to_vectors_of_the_step_by_the_seed_alone():
    features = torch.randn(300, 4)
    first, again, other = made(1, 64), made(1, 64), made(1, 64)
    for quantizer in (first, again, other):
        quantizer.load_state_dict(first.state_dict())
        quantizer.layers.layers[0]._codebook.embed.add_(100.0)[:, 0] = 0.0  # All vectors are nearest to code 0.
    state = torch.get_rng_state()
    first.learn(features, seed=5)
    torch.manual_seed(77)
    again.learn(features, seed=5)
    other.learn(features, seed=6)
    torch.set_rng_state(state)
    moved = first.layers.codebooks[0, 1:]
    assert (moved[:, None] == features).all(-1).any(1).all()
    assert len(moved.unique(dim=0)) == 63
    torch.testing.assert_close(first.layers.codebooks[0, 0], features.mean(0), rtol=1e-3, atol=1e-3)
    assert torch.equal(first.layers.codebooks, again.layers.codebooks)
    assert not torch.equal(first.layers.codebooks, other.layers.codebooks)


def test_learning_leaves_the_global_generator_as_it_was():
    quantizer = made(2, 64)
    before = torch.get_rng_state()
    quantizer.learn(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_code_is_dead_below_a_share_of_the_mean_use():
    quantizer = made(1, 2)
    book = quantizer.layers.layers[0]._codebook
    book.embed.copy_(torch.tensor([[[0.0] * 4, [10.0] * 4]]))
    features = torch.cat([torch.zeros(99, 4), torch.full((1, 4), 10.0)]) + 0.01 * torch.randn(100, 4)
    book.cluster_size.copy_(torch.tensor([[99.0, 6.0]]))
    book.embed_avg.copy_(torch.tensor([[[0.0] * 4, [60.0] * 4]]))
    quantizer.learn(features, seed=0)  # 0.9 * 6 + 0.1 = 5.5 is above a tenth of the mean use, 5.
    assert quantizer.layers.codebooks[0, 1].mean() > 9
    quantizer.learn(features, seed=3)  # 5.05 still is; then 4.6 is not.
    assert quantizer.layers.codebooks[0, 1].mean() > 9
    quantizer.learn(features, seed=3)
    assert book.cluster_size[0, 1] == 5.0


def test_many_vectors_end_up_well_quantized():
    quantizer = ResidualQuantizer(4, 2, 16, 0.9)
    features = torch.randn(500, 4)
    for step in range(60):
        quantizer.learn(features, seed=step)
    errors = [(features - part[0]).square().mean() for part in quantizer.partial_sums(quantizer.codes(features[None]))]
    assert errors[0] < 0.45
    assert errors[1] < 0.45 * errors[0] + 0.05
    assert all(len(level.unique()) == 16 for level in quantizer.codes(features[None])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4, 0, 8, 0.9), "0 codebooks of 8"), ((4, 2, 1, 0.9), "2 codebooks of 1"), ((4, 2, 8, 1.0), "decay 1 must")],
)
def test_codebooks_that_are_none_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualQuantizer(*arguments)
