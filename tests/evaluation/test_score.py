"""Scores are plain data, and are compared only with their like."""

import json
import math
from dataclasses import asdict, replace

import msgspec
import pytest

from melody_cm.evaluation import Score, refuse_unlike, unlike_n
from melody_cm.interfaces import EmbeddingIdentity

IDENTITY = EmbeddingIdentity("vggish", "1", "abc", 16000, "0.96 s", 128, True)
DROPPED = {"generated": {"silent": 2}, "reference": {}}


def score(identity=IDENTITY, **changes):
    made = Score(2.5, 2.0, 1.5, 2.5, "jackknife", 300, 400, False, asdict(identity) if identity else None, DROPPED)
    return replace(made, **changes)


def test_a_score_survives_json():
    made = score(details={"raw": 2.5}, warnings=["careful"])
    data = json.loads(json.dumps(asdict(made)))
    assert msgspec.convert({**data, "new": 1}, Score) == made
    assert data["embedding"]["name"] == "vggish"


def test_a_number_that_is_not_finite_is_left_out_of_a_mean_and_counted():
    found = Score.mean([1.0, math.nan, 3.0, math.inf], "mean", ["a", "b", "b", "c"])
    assert found == replace(Score.mean([1.0, 3.0], "mean", ["a", "b"]), dropped=found.dropped)
    assert (found.value, found.groups, found.dropped["generated"]) == (2.0, {"generated": 2}, {"other": 2})


def test_like_scores_may_be_compared():
    refuse_unlike(score(), score(value=3.0, n_generated=5))
    refuse_unlike(score(None), score(None))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "clap"}, "name 'vggish' against 'clap'"),
        ({"version": "2"}, "version '1' against '2'"),
        ({"weights": "xyz"}, "weights 'abc' against 'xyz'"),
        ({"sample_rate": 8000}, "sample_rate 16000 against 8000"),
        ({"window": "1 s"}, "window '0.96 s' against '1 s'"),
        ({"resampler": "sinc"}, "resampler 'soxr HQ' against 'sinc'"),
    ],
)
def test_unlike_scores_are_refused_with_the_part_that_differs(change, said):
    with pytest.raises(ValueError, match=said) as refusal:
        refuse_unlike(score(), score(replace(IDENTITY, **change)))
    assert str(refusal.value).count(" against ") == 1
    assert "\n" not in str(refusal.value)


def test_a_score_without_an_embedding_is_unlike_one_with():
    with pytest.raises(ValueError, match="name 'vggish' against None"):
        refuse_unlike(score(), score(None))


def test_unlike_numbers_of_clips_are_said():
    assert unlike_n(score(), score(value=1.0)) is None
    said = unlike_n(score(), score(n_generated=100, n_reference=None))
    assert "300 against 100 generated clips, 400 against None reference clips" in said
