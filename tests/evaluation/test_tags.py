"""Measures on a tagger's logits against other libraries, loops, and simulated contests."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from melody_cm.evaluation.tags import inception_score, names_instrument, prompt_judge, tag_divergence
from melody_cm.interfaces import EmbeddingIdentity

TAGS = ("guitar", "piano", "slow")
IDENTITY = EmbeddingIdentity("musicnn_tags", "1", "abc", 16000, "3 s", 3, True)


def alone(count):
    """Every clip a group of its own."""
    return [str(index) for index in range(count)]


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
    assert scores["prompt_auc_guitar_musicnn_tags"].value == pytest.approx(guitar)
    assert scores["prompt_auc_piano_musicnn_tags"].value == pytest.approx(piano)
    assert scores["prompt_auc_musicnn_tags"].value == pytest.approx((guitar + piano) / 2)
    assert set(scores) == {"prompt_auc_musicnn_tags", "prompt_auc_guitar_musicnn_tags", "prompt_auc_piano_musicnn_tags"}
    assert scores["prompt_auc_guitar_musicnn_tags"].details == {"named": 20}
    assert scores["prompt_auc_musicnn_tags"].n_generated == 60


def test_the_interval_of_an_area_is_a_jackknife_of_its_log_odds_over_whole_groups():
    logits, captions, groups = contest(np.random.default_rng(0))
    score = prompt_judge(logits, TAGS, captions, groups, IDENTITY)["prompt_auc_guitar_musicnn_tags"]
    named, groups = np.array(["Guitar" in one for one in captions]), np.array(groups)
    kept = [groups != "none", *(groups != str(group) for group in range(24))]
    whole, *without = (logit(roc_auc_score(named[keep], logits[keep, 0])) for keep in kept)
    error = np.sqrt(23 / 24 * np.square(without - np.mean(without)).sum())
    middle, half = 24 * whole - 23 * np.mean(without), stats.t.ppf(0.975, 23) * error
    assert (score.low, score.high) == pytest.approx((expit(middle - half), expit(middle + half)))


def test_too_few_clips_give_no_area_and_one_prompt_no_interval():
    logits, captions, groups = contest(np.random.default_rng(0), 24, 1)
    assert prompt_judge(logits[:9], TAGS, captions[:9], groups[:9], IDENTITY) == {}
    one = ["same" if "Guitar" in caption else group for caption, group in zip(captions, groups, strict=True)]
    score = prompt_judge(logits, TAGS, captions, one, IDENTITY)["prompt_auc_guitar_musicnn_tags"]
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
    scores = tag_divergence(generated, reference, alone(7), IDENTITY)
    softmax = sigmoid = 0.0
    for one, other in zip(generated.double().numpy(), reference.double().numpy(), strict=True):
        q, p = np.exp(one) / np.exp(one).sum(), np.exp(other) / np.exp(other).sum()
        softmax += sum(p[k] * (np.log(p[k]) - np.log(q[k] + 1e-6)) for k in range(5)) / 7
        q, p = 1 / (1 + np.exp(-one)), 1 / (1 + np.exp(-other))
        sigmoid += sum(p[k] * (np.log(p[k]) - np.log(q[k] + 1e-6)) for k in range(5)) / 7
    assert scores["kl_musicnn_tags"].value == pytest.approx(softmax)
    assert scores["kl_sigmoid_musicnn_tags"].value == pytest.approx(sigmoid)
    # As audiocraft writes it.
    pairs = torch.nn.functional.kl_div((generated.softmax(1) + 1e-6).log(), reference.softmax(1), reduction="none").sum(
        1
    )
    assert scores["kl_musicnn_tags"].value == pytest.approx(pairs.mean().item(), rel=1e-4)
    assert tag_divergence(reference, reference, alone(7), IDENTITY)["kl_musicnn_tags"].value == pytest.approx(
        0, abs=1e-4
    )


def test_the_divergences_of_clips_that_belong_together_count_once():
    generated, reference, groups = torch.randn(8, 5), torch.randn(8, 5), list("aabbccdd")
    score = tag_divergence(generated, reference, groups, IDENTITY)["kl_musicnn_tags"]
    p, q = reference.double().softmax(1), generated.double().softmax(1)
    means = (p * (p.log() - (q + 1e-6).log())).sum(1).unflatten(0, (4, 2)).mean(1).numpy()
    assert (score.low, score.high) == pytest.approx(stats.t.interval(0.95, 3, means.mean(), stats.sem(means)))
    assert score.groups == {"generated": 4}


def slow_inception(logits, keep):
    """audioldm_eval's loop over ten parts, over the clips that are kept."""
    count = len(logits)
    order, parts = np.random.RandomState(2020).permutation(count), []
    for part in range(10):
        places = [place for place in order[part * count // 10 : (part + 1) * count // 10] if keep[place]]
        rows = logits.double().numpy()[places]
        p = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
        parts.append(np.exp(np.mean([np.sum(one * np.log(one / p.mean(0))) for one in p])))
    return np.mean(parts)


def test_the_interval_of_the_inception_score_leaves_out_whole_groups():
    logits, member = 2 * torch.randn(60, 5), np.arange(60) // 5
    score = inception_score(logits, [str(one) for one in member], IDENTITY)["inception_musicnn_tags"]
    full = slow_inception(logits, np.ones(60, dtype=bool))
    without = np.array([slow_inception(logits, member != group) for group in range(12)])
    error = np.sqrt(11 / 12 * np.square(without - without.mean()).sum())
    assert score.value == pytest.approx(full)
    assert (score.high - score.low) / 2 == pytest.approx(stats.t.ppf(0.975, 11) * error)
    assert (score.groups, score.corrected) == ({"generated": 12}, score.value)
    one = inception_score(logits, ["same"] * 60, IDENTITY)["inception_musicnn_tags"]
    assert (one.low, one.high, one.too_few) == (None, None, True)


def test_the_inception_score_is_that_of_audioldm_eval():
    logits = 2 * torch.randn(57, 5)
    score = inception_score(logits, alone(57), IDENTITY)["inception_musicnn_tags"]
    assert score.value == pytest.approx(slow_inception(logits, np.ones(57, dtype=bool)))
    assert score.too_few
    assert score.n_generated == 57
    same = inception_score(torch.ones(200, 5), alone(200), IDENTITY)["inception_musicnn_tags"]
    assert same.value == pytest.approx(1.0)
    clear = inception_score(50 * torch.eye(5).repeat(40, 1), alone(200), IDENTITY)["inception_musicnn_tags"]
    assert 4 < clear.value <= 5
    assert inception_score(logits[:9], alone(9), IDENTITY) == {}
