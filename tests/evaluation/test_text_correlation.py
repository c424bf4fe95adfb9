"""The mean cosine of text and audio against torch's cosine and a loop over shuffled captions."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats

from melody_cm.evaluation import mean_interval, text_correlation
from melody_cm.interfaces import EmbeddingIdentity


def identity(width):
    return EmbeddingIdentity("joint", "1", "abc", 16000, "10 s", width, True)


def score_of(text, audio):
    return text_correlation(text, audio, identity(text.shape[1]))


def test_equal_unit_vectors_score_1_and_opposite_ones_minus_1():
    vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    assert score_of(vectors, vectors).value == pytest.approx(1)
    assert score_of(vectors, -vectors).value == pytest.approx(-1)
    assert score_of(vectors, 7 * vectors).value == pytest.approx(1)


def test_the_mean_cosine_and_its_interval():
    text, audio = torch.randn(20, 8), torch.randn(20, 8)
    score = score_of(text, audio)
    cosine = torch.nn.functional.cosine_similarity(text.double(), audio.double()).numpy()
    assert score.value == pytest.approx(cosine.mean())
    assert (score.low, score.high) == pytest.approx(stats.t.interval(0.95, 19, cosine.mean(), stats.sem(cosine)))
    assert (score.n_generated, score.n_reference, score.too_few) == (20, 20, False)
    assert score.embedding == asdict(identity(8))


def test_clips_of_one_prompt_are_one_group_and_no_wrong_pair():
    texts, audio = torch.randn(5, 8).repeat_interleave(3, 0), torch.randn(15, 8)
    prompts, takes = [f"prompt {index // 3}" for index in range(15)], [f"take {index % 3}" for index in range(15)]
    score = text_correlation(texts, audio, identity(8), None, prompts, takes)
    cosines = torch.nn.functional.cosine_similarity(audio.double()[:, None], texts.double(), dim=2)
    own = cosines.diagonal()
    wrong = torch.stack(
        [
            torch.cat([row[: start * 3], row[start * 3 + 3 :]]).mean()
            for start, row in zip([i // 3 for i in range(15)], cosines, strict=True)
        ]
    )
    assert score.details["shuffled"] == pytest.approx(wrong.mean().item())
    assert (score.low, score.high) == pytest.approx(mean_interval(own.tolist(), prompts, takes))
    low, high = mean_interval((own - wrong).tolist(), prompts, takes)
    assert (score.details["excess_low"], score.details["excess_high"]) == pytest.approx((low, high))
    assert score.groups == {"generated": 5}
    one = text_correlation(texts[:3], audio[:3], identity(8), None, prompts[:3], takes[:3])
    assert (one.low, one.details) == (None, {})


def test_shuffled_captions_score_what_all_wrong_pairs_do():
    text = torch.randn(6, 8)
    audio = text + 0.5 * torch.randn(6, 8)
    wrong = [
        torch.nn.functional.cosine_similarity(text[i : i + 1].double(), audio[j : j + 1].double()).item()
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    score = score_of(text, audio)
    assert score.details["shuffled"] == pytest.approx(np.mean(wrong))
    assert score.value > score.details["shuffled"] + 0.3


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_the_excess_over_wrong_captions_has_the_interval_of_a_loop_over_clips(noise):
    text = torch.randn(30, 8)
    audio = text + noise * torch.randn(30, 8)
    details, cosines = score_of(text, audio).details, np.zeros((30, 30))
    for i in range(30):
        for j in range(30):
            cosines[i, j] = torch.nn.functional.cosine_similarity(text[i].double(), audio[j].double(), dim=0)
    excess = np.array([cosines[j, j] - np.delete(cosines[:, j], j).mean() for j in range(30)])
    interval = stats.t.interval(0.95, 29, excess.mean(), stats.sem(excess))
    assert details["excess"] == pytest.approx(excess.mean())
    assert (details["excess_low"], details["excess_high"]) == pytest.approx(interval)


def test_vectors_without_a_direction_are_left_out_and_counted():
    text, audio = torch.randn(8, 4), torch.randn(8, 4)
    clean = score_of(text[:5], audio[:5])
    audio[5], text[6], audio[7] = torch.nan, torch.inf, 0
    score = text_correlation(text, audio, identity(4), {"silent": 1, "not finite": 3})
    assert (score.value, score.low) == (pytest.approx(clean.value), pytest.approx(clean.low))
    assert score.details == pytest.approx(clean.details)
    assert score.dropped["generated"] == {"silent": 1, "not finite": 5, "other": 1}
    assert score.n_generated == 5


def test_no_clip_gives_no_value():
    score = score_of(torch.zeros(2, 4), torch.zeros(2, 4))
    assert (score.value, score.low, score.too_few, score.details) == (None, None, True, {})
