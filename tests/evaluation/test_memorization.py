"""Nearest training clips against a loop over all pairs; shares above a cosine of 0.90 and 0.95."""

import pytest
import torch
from scipy import stats

from melody_cm.evaluation import Memorization, memorization
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("joint", "1", "abc", 16000, "10 s", width, True)


def ids(count):
    return [f"song{index}" for index in range(count)]


def at_cosine(vector, cosine):
    """A vector at that cosine from another one."""
    other = torch.randn_like(vector)
    other -= (other @ vector) / (vector @ vector) * vector
    return cosine * vector / vector.norm() + (1 - cosine**2) ** 0.5 * other / other.norm()


def test_shares_count_clips_above_each_threshold():
    training = torch.randn(200, 64).double()
    cosines = [0.89, 0.91, 0.94, 0.96]
    generated = torch.stack([at_cosine(vector, cosine) for vector, cosine in zip(training, cosines, strict=False)])
    metric = Memorization(identity(64), 3 * generated)
    metric.update(training, ids(200))
    scores = metric.compute()
    assert {key: score.value for key, score in scores.items()} == {"sim_aa@90": 0.75, "sim_aa@95": 0.25}
    assert metric.similarity.tolist() == pytest.approx(cosines)
    assert metric.nearest == ["song0", "song1", "song2", "song3"]
    interval = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert (scores["sim_aa@90"].low, scores["sim_aa@90"].high) == (interval.low, interval.high)
    assert (scores["sim_aa@95"].n_generated, scores["sim_aa@95"].n_reference) == (4, 200)


def test_the_nearest_of_all_pairs_is_found_whatever_the_batches(monkeypatch):
    monkeypatch.setattr(memorization, "CHUNK", 7)
    generated, training = torch.randn(9, 5), torch.randn(50, 5)
    metric = Memorization(identity(5), generated)
    for start in range(0, 50, 20):
        metric.update(training[start : start + 20], ids(50)[start : start + 20])
    for row in range(9):
        cosine = [torch.nn.functional.cosine_similarity(generated[row].double(), x.double(), dim=0) for x in training]
        best = int(torch.stack(cosine).argmax())
        assert metric.similarity[row].item() == pytest.approx(cosine[best].item())
        assert metric.nearest[row] == f"song{best}"


def test_broken_training_clips_are_left_out_and_counted():
    generated, training = torch.randn(3, 5), torch.randn(6, 5)
    training[2], training[4] = torch.nan, 0
    metric = Memorization(identity(5), generated)
    metric.update(training, ids(6))
    score = metric.compute()["sim_aa@90"]
    assert score.n_reference == 4
    assert score.dropped["reference"] == {"not finite": 2}
    assert not {"song2", "song4"} & set(metric.nearest)
    metric.reset()
    assert metric.nearest == ["", "", ""]
    assert metric.similarity.tolist() == [-1, -1, -1]


def test_nothing_to_compare_gives_no_value():
    assert Memorization(identity(5), torch.randn(3, 5)).compute()["sim_aa@90"].value is None
    empty = Memorization(identity(5), torch.empty(0, 5))
    empty.update(torch.randn(3, 5), ids(3))
    assert empty.compute()["sim_aa@95"].too_few


def test_what_is_wrong_is_said_in_one_line():
    with pytest.raises(ValueError, match="width 4, but joint has 5"):
        Memorization(identity(5), torch.randn(3, 4))
    with pytest.raises(ValueError, match="0 or not finite"):
        Memorization(identity(5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="2 clip ids for 3 training clips"):
        Memorization(identity(5), torch.randn(3, 5)).update(torch.randn(3, 5), ids(2))
