"""Recall against slow loops, over duplicates, ties and shares of several processes."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from melody_cm.evaluation import RetrievalRecall
from melody_cm.evaluation.retrieval import RANKS, recall


def unit_vectors(count, width=6):
    return F.normalize(torch.randn(count, width), dim=-1)


def slow_recall(queries, targets, groups, k):
    hits = 0
    for query, group in zip(queries, groups, strict=True):
        order = sorted(range(len(targets)), key=lambda i: -float(query.double() @ targets[i].double()))
        hits += any(groups[i] == group for i in order[:k])
    return hits / len(queries)


def filled(audio, text, captions):
    metric = RetrievalRecall(len(audio), audio.shape[1])
    metric.update(range(len(audio)), audio, text, captions)
    return metric.compute()


@pytest.mark.parametrize("num_captions", [40, 15, 3])
def test_both_directions_are_those_of_a_slow_loop(num_captions):
    audio, text = unit_vectors(40), unit_vectors(40)
    captions = [f"caption {i % num_captions}" for i in range(40)]
    found = filled(audio, text, captions)
    for k in RANKS:
        assert found[f"recall_at_{k}_text_to_audio"] == pytest.approx(slow_recall(text, audio, captions, k))
        assert found[f"recall_at_{k}_audio_to_text"] == pytest.approx(slow_recall(audio, text, captions, k))
    assert found["n"] == 40


def test_a_clip_with_the_same_caption_is_a_hit():
    audio = torch.eye(4)
    text = torch.eye(4)[[1, 0, 3, 2]]  # Every text finds another clip than its own first.
    strangers, twins = filled(audio, text, list("abcd")), filled(audio, text, list("aabb"))
    assert (strangers["recall_at_1_text_to_audio"], strangers["recall_at_1_audio_to_text"]) == (0.0, 0.0)
    assert (twins["recall_at_1_text_to_audio"], twins["recall_at_1_audio_to_text"]) == (1.0, 1.0)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1, 1], [2, 2, 1, 1], [4, 2], [6]])
def test_equal_similarities_are_the_mean_over_all_orders_and_score_chance(sizes):
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    same = torch.ones(6, 2) / 2**0.5
    for k in (1, 2, 4, 6):
        orders = list(itertools.permutations(range(6)))
        hits = [any(groups[i] == group for i in order[:k]) for group in groups for order in orders]
        expected = sum(hits) / len(hits)
        assert recall(same, same, torch.tensor(groups), [k]) == [pytest.approx(expected)]
    found = filled(same, same, [str(group) for group in groups])
    for k in RANKS:
        assert found[f"chance_at_{k}"] == pytest.approx(found[f"recall_at_{k}_text_to_audio"])


def test_ties_below_better_ones_share_the_places_that_are_left():
    query, targets = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [1.0, 0.0]])
    queries = query.expand(4, 2)
    groups = torch.tensor([0, 1, 2, 3])
    # The fourth finds itself at once; the other three share the places after it.
    assert recall(queries, targets, groups, [1, 2, 3, 4]) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_chance_without_duplicates_is_k_of_n():
    found = filled(unit_vectors(50), unit_vectors(50), [str(i) for i in range(50)])
    assert [found[f"chance_at_{k}"] for k in RANKS] == pytest.approx([0.02, 0.1, 0.2])


def test_many_clips_are_ranked_in_parts(monkeypatch):
    audio, text = unit_vectors(30), unit_vectors(30)
    groups = torch.arange(30) % 20
    whole = recall(text, audio, groups, RANKS)
    monkeypatch.setattr("melody_cm.evaluation.retrieval.ROWS", 7)
    assert recall(text, audio, groups, RANKS) == pytest.approx(whole)


def test_places_that_were_never_filled_and_broken_vectors_do_not_count():
    audio, text = unit_vectors(12), unit_vectors(12)
    captions = [str(i) for i in range(12)]
    metric = RetrievalRecall(20, 6)
    broken = torch.cat([text, torch.full((1, 6), torch.nan)])
    places = [*range(0, 12), 17]
    metric.update(places, torch.cat([audio, audio[:1]]), broken, [*captions, "broken"])
    assert metric.compute() == pytest.approx(filled(audio, text, captions))
    assert RetrievalRecall(3, 6).compute() == {"n": 0.0}


def test_batches_in_any_order_are_the_whole():
    audio, text = unit_vectors(20), unit_vectors(20)
    captions = [str(i % 13) for i in range(20)]
    metric = RetrievalRecall(20, 6)
    for rows in (range(11, 20), range(0, 4), range(4, 11)):
        metric.update(
            list(rows), audio[rows.start : rows.stop], text[rows.start : rows.stop], captions[rows.start : rows.stop]
        )
    assert metric.compute() == pytest.approx(filled(audio, text, captions))
