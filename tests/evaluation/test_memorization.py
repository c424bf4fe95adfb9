"""Nearest training clips against a loop over all pairs; shares above a cosine of 0.90 and 0.95."""

import pytest
import torch
from scipy import stats

from melody_cm.evaluation import memorization
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("joint", "1", "abc", 16000, "10 s", width, True)


def at_cosine(vector, cosine):
    """A vector at that cosine from another one."""
    other = torch.randn_like(vector)
    other -= (other @ vector) / (vector @ vector) * vector
    return cosine * vector / vector.norm() + (1 - cosine**2) ** 0.5 * other / other.norm()


def test_shares_count_clips_above_each_threshold():
    training = torch.randn(200, 64).double()
    cosines = [0.89, 0.91, 0.94, 0.96]
    generated = torch.stack([at_cosine(vector, cosine) for vector, cosine in zip(training, cosines, strict=False)])
    scores = memorization(3 * generated, training.split(70), identity(64))
    assert {key: score.value for key, score in scores.items()} == {"sim_aa@90_joint": 0.75, "sim_aa@95_joint": 0.25}
    assert scores["sim_aa@90_joint"].details["mean_similarity"] == pytest.approx(sum(cosines) / 4)
    interval = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert (scores["sim_aa@90_joint"].low, scores["sim_aa@90_joint"].high) == pytest.approx(tuple(interval))
    assert (scores["sim_aa@95_joint"].n_generated, scores["sim_aa@95_joint"].n_reference) == (4, 200)


def test_clips_of_one_prompt_count_as_far_as_they_differ():
    training, generated = torch.eye(12).double(), torch.eye(12).repeat_interleave(5, 0).double()
    far = torch.tensor([place % 2 == 0 for place in range(12)]).repeat_interleave(5)
    generated[far] = 1.0  # Every other prompt repeats training music in all its clips.
    prompts = [f"prompt {place // 5}" for place in range(60)]
    grouped = memorization(generated, [training], identity(12), prompts)["sim_aa@90_joint"]
    assert (grouped.value, grouped.groups) == (0.5, {"generated": 12})
    # Korn and Graubard: the variance of 12 means of 0 or 1, p (1 - p) / 11, and Student's quantiles.
    count = 11 * (stats.t.ppf(0.975, 59) / stats.t.ppf(0.975, 11)) ** 2
    low, high = stats.beta.ppf(0.025, count / 2, count / 2 + 1), stats.beta.ppf(0.975, count / 2 + 1, count / 2)
    assert (grouped.low, grouped.high) == pytest.approx((low, high))
    same = memorization(generated, [training], identity(12), ["one"] * 60)["sim_aa@90_joint"]
    assert (same.value, same.low, same.high, same.too_few) == (0.5, None, None, True)


@pytest.mark.parametrize("size", [1, 20, 50])
def test_the_nearest_of_all_pairs_is_found_whatever_the_batches(size):
    generated, training = torch.randn(9, 5), torch.randn(50, 5)
    found = memorization(generated, training.split(size), identity(5))["sim_aa@90_joint"]
    cosines = torch.nn.functional.cosine_similarity(generated[:, None].double(), training.double(), dim=2)
    assert found.details["mean_similarity"] == pytest.approx(cosines.amax(1).mean().item())


def test_vectors_without_a_direction_are_left_out_and_counted():
    generated, training = torch.randn(3, 5), torch.randn(6, 5)
    training[2], training[4], generated[1] = torch.nan, 0, 0
    score = memorization(generated, [training[:3], training[4:5], training[3:]], identity(5))["sim_aa@90_joint"]
    assert (score.n_generated, score.n_reference) == (2, 4)
    assert score.dropped["reference"] == {"not finite": 3}


def test_nothing_to_compare_gives_no_value():
    assert memorization(torch.randn(3, 5), [], identity(5))["sim_aa@90_joint"].value is None
    assert memorization(torch.empty(0, 5), [torch.randn(3, 5)], identity(5))["sim_aa@95_joint"].too_few
