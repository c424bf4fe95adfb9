"""Measures on a tagger's logits against other libraries, loops, and simulated contests."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from melody_cm.evaluation.tags import inception_score, names_instrument, prompt_judge, tag_divergence
from melody_cm.interfaces import EmbeddingIdentity

TAGS = ("guitar", "piano", "slow")
IDENTITY = EmbeddingIdentity("musicnn_tags", "1", "abc", 16000, "3 s", 3, True)


def contest(generator, prompts=24, clips=3, effect=1.0):
    """Clips of prompts that name a guitar or do not; clips of one prompt resemble each other."""
    named = np.arange(prompts) % 2 == 0
    of_prompt = generator.normal(0, 1, prompts) + effect * named
    logits = np.repeat(of_prompt, clips) + generator.normal(0, 0.5, prompts * clips)
    captions = ["a Guitar and a flute" if one else "a flute" for one in np.repeat(named, clips)]
    groups = [str(prompt) for prompt in np.repeat(np.arange(prompts), clips)]
    return torch.tensor(np.stack([logits, 0 * logits, 0 * logits], 1)).float(), captions, groups


def test_the_area_is_that_of_scikit_learn_with_ties():
    logits = torch.randint(0, 6, (60, 3)).float()
    captions = ["slow piano" if index % 3 else "two electric guitars" for index in range(60)]
    scores = prompt_judge(logits, TAGS, captions, [str(index) for index in range(60)], IDENTITY)
    guitar = roc_auc_score(["guitar" in one for one in captions], logits[:, 0])
    piano = roc_auc_score(["piano" in one for one in captions], logits[:, 1])
    assert scores["tag_auc_guitar"].value == pytest.approx(guitar)
    assert scores["tag_auc_piano"].value == pytest.approx(piano)
    assert scores["tag_auc"].value == pytest.approx((guitar + piano) / 2)
    assert set(scores) == {"tag_auc", "tag_auc_guitar", "tag_auc_piano"}
    assert scores["tag_auc_guitar"].details == {"named": 20}
    assert scores["tag_auc"].n_generated == 60


def test_the_interval_holds_the_truth_of_clips_that_come_in_groups():
    generator = np.random.default_rng(0)
    truth = prompt_judge(*_of(contest(generator, 2000, 1)))["tag_auc_guitar"].value
    found = [prompt_judge(*_of(contest(generator)))["tag_auc_guitar"] for _ in range(200)]
    covered = np.mean([score.low <= truth <= score.high for score in found])
    assert 0.92 <= covered <= 0.99
    # Had every clip counted for itself, the interval would be too narrow.
    alone = [contest(generator) for _ in range(100)]
    scores = [
        prompt_judge(*_of((x, captions, [str(i) for i in range(72)])))["tag_auc_guitar"] for x, captions, _ in alone
    ]
    assert np.mean([score.low <= truth <= score.high for score in scores]) < 0.85


def _of(made):
    logits, captions, groups = made
    return logits, TAGS, captions, groups, IDENTITY


def test_too_few_clips_give_no_area_and_one_prompt_no_interval():
    logits, captions, groups = contest(np.random.default_rng(0), 24, 1)
    assert prompt_judge(logits[:9], TAGS, captions[:9], groups[:9], IDENTITY) == {}
    one = ["same" if "Guitar" in caption else group for caption, group in zip(captions, groups, strict=True)]
    score = prompt_judge(logits, TAGS, captions, one, IDENTITY)["tag_auc_guitar"]
    assert (score.low, score.high, score.too_few) == (None, None, True)
    assert score.value is not None


@pytest.mark.parametrize(
    ("caption", "tag", "expected"),
    [
        ("Nylon-string guitar, drums", "guitar", True),
        ("Nylon-string guitar, drums", "strings", False),
        ("harpsichord solo", "harp", False),
        ("two HARPS", "harp", True),
        ("a string quartet", "strings", True),
        ("fortepianos", "piano", False),
    ],
)
def test_a_caption_names_an_instrument_by_whole_words(caption, tag, expected):
    assert names_instrument(caption, tag) is expected


def test_the_divergences_are_those_of_audiocraft_and_audioldm_eval():
    generated, reference = 3 * torch.randn(7, 5), 3 * torch.randn(7, 5)
    scores = tag_divergence(generated, reference, IDENTITY)
    softmax = sigmoid = 0.0
    for one, other in zip(generated.double().numpy(), reference.double().numpy(), strict=True):
        q, p = np.exp(one) / np.exp(one).sum(), np.exp(other) / np.exp(other).sum()
        softmax += sum(p[k] * (np.log(p[k]) - np.log(q[k] + 1e-6)) for k in range(5)) / 7
        q, p = 1 / (1 + np.exp(-one)), 1 / (1 + np.exp(-other))
        sigmoid += sum(p[k] * (np.log(p[k]) - np.log(q[k] + 1e-6)) for k in range(5)) / 7
    assert scores["tag_kl"].value == pytest.approx(softmax)
    assert scores["tag_kl_sigmoid"].value == pytest.approx(sigmoid)
    # As audiocraft writes it.
    pairs = torch.nn.functional.kl_div((generated.softmax(1) + 1e-6).log(), reference.softmax(1), reduction="none").sum(
        1
    )
    assert scores["tag_kl"].value == pytest.approx(pairs.mean().item(), rel=1e-4)
    assert tag_divergence(reference, reference, IDENTITY)["tag_kl"].value == pytest.approx(0, abs=1e-4)


def test_the_inception_score_is_that_of_audioldm_eval():
    logits = 2 * torch.randn(57, 5)
    order = np.random.RandomState(2020).permutation(57)
    parts = []
    for part in range(10):
        rows = logits.double().numpy()[order][part * 57 // 10 : (part + 1) * 57 // 10]
        p = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
        parts.append(np.exp(np.mean([np.sum(one * np.log(one / p.mean(0))) for one in p])))
    score = inception_score(logits, IDENTITY)["tag_inception"]
    assert score.value == pytest.approx(np.mean(parts))
    assert score.too_few
    assert score.n_generated == 57
    same = inception_score(torch.ones(200, 5), IDENTITY)["tag_inception"]
    assert same.value == pytest.approx(1.0)
    clear = inception_score(50 * torch.eye(5).repeat(40, 1), IDENTITY)["tag_inception"]
    assert 4 < clear.value <= 5
    assert inception_score(logits[:9], IDENTITY) == {}
