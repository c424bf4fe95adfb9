"""The real clip beside each prompt."""

import math

import pytest
import soundfile
import torch

from melody_cm.comparison.real_clips import RealClip, nearest_captions


def test_the_nearest_caption_shares_the_rarest_words():
    captions = ["a calm piano piece", "fast techno with drums", "slow drums", "calm strings", ""]
    prompts = ["a Piano, calm", "drums with techno", "the bagpipe"]
    assert nearest_captions(prompts, captions) == [0, 1, None]
    assert nearest_captions(prompts, []) == [None] * 3
    assert nearest_captions(prompts, ["", "the"]) == [None] * 3


def test_it_is_the_nearest_by_tf_idf_computed_by_hand():
    captions = ["calm piano night", "calm calm drums", "piano drums drums", "night drums"]
    counts = [{word: words.split().count(word) for word in words.split()} for words in captions]
    idf = {word: math.log(5 / (1 + sum(word in c for c in counts))) + 1 for word in ["calm", "piano", "night", "drums"]}

    def unit(bag):
        vector = {word: number * idf[word] for word, number in bag.items()}
        return {word: value / math.hypot(*vector.values()) for word, value in vector.items()}

    for prompt in ("calm drums", "piano drums", "night", "calm night drums"):
        asked = unit({word: 1 for word in prompt.split()})
        cosines = [sum(asked.get(word, 0) * value for word, value in unit(bag).items()) for bag in counts]
        assert nearest_captions([prompt], captions) == [cosines.index(max(cosines))]


def test_it_is_written_beside_the_systems_clips(tmp_path):
    told = RealClip(3, "calm", torch.sin(torch.arange(800.0)) * 0.5, 8000).write(tmp_path)
    assert told == {"prompt": 3, "caption": "calm", "file": "audio/real/prompt003.wav"}
    samples, rate = soundfile.read(tmp_path / told["file"])
    assert (len(samples), rate) == (800, 8000)
    assert abs(samples).max() == pytest.approx(0.5, abs=0.01)
