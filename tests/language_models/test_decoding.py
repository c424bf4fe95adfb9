import pytest
import torch

from melody_cm.language_models.decoding import check_sampling, draw, probabilities, uniform_rows


def test_without_limits_probabilities_are_the_tempered_softmax():
    logits = torch.randn(4, 9)
    expected = (logits.double() / 0.7).softmax(-1)
    torch.testing.assert_close(probabilities(logits, 0.7, 0, 1.0), expected)


def test_top_k_keeps_the_k_largest_even_among_equals():
    logits = torch.tensor([[0.0, 2.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    kept = probabilities(logits, 1.0, 2, 1.0)
    assert kept[0].nonzero()[:, 0].tolist() == [1, 3]
    assert (kept > 0).sum(1).tolist() == [2, 2]
    torch.testing.assert_close(kept[0, [1, 3]], torch.tensor([2.0, 3.0], dtype=torch.float64).softmax(0))


@pytest.mark.parametrize(
    ("top_p", "expected"), [(0.5, [2]), (0.51, [0, 2]), (0.79, [0, 2]), (0.81, [0, 2, 3]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_likeliest_that_reach_it(top_p, expected):
    shares = torch.tensor([[0.3, 0.05, 0.5, 0.15]], dtype=torch.float64)
    kept = probabilities(shares.log(), 1.0, 0, top_p)
    assert kept[0].nonzero()[:, 0].tolist() == expected
    torch.testing.assert_close(kept[0, expected], shares[0, expected] / shares[0, expected].sum())


def test_top_p_counts_shares_of_what_top_k_left():
    shares = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    assert (probabilities(shares.log(), 1.0, 2, 0.55) > 0).sum() == 1


def test_draws_have_the_frequencies_of_the_distribution_and_never_its_zeros():
    shares = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0], dtype=torch.float64)
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens = draw(shares.expand(10_000, -1), uniform)
    torch.testing.assert_close(torch.bincount(tokens, minlength=6) / 10_000, shares.float(), atol=2e-4, rtol=0)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(shares.expand(2, -1), ends).tolist() == [1, 4]


def test_each_row_of_uniform_numbers_belongs_to_its_generator():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = uniform_rows(generators(3, 4), 5)
    assert torch.equal(both[1:], uniform_rows(generators(4), 5))
    assert not torch.equal(both[0], both[1])
    assert torch.equal(uniform_rows(generators(3), 3), both[:1, :3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0.0, 0, 1.0), "temperature 0"),
        ((1.0, -1, 1.0), "top_k -1"),
        ((1.0, 0, 0.0), "top_p 0"),
        ((1.0, 0, 1.5), "top_p 1.5"),
    ],
)
def test_settings_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_sampling(*settings)
