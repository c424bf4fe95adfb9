"""The clips that evaluations share out, that looking leaves no trace, and the picture of a sound."""

import math
import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from melody_cm.batch import MusicBatch
from melody_cm.data import MusicDataModule, SyntheticCorpus
from melody_cm.evaluation.callbacks.audio_samples import NUM_MELS, PIXELS_PER_MEL, spectrogram_picture
from melody_cm.evaluation.callbacks.periodic import held_back_clips, prompted_clips, share_out, undisturbed


class Data(MusicDataModule):
    """Ten held-back clips."""

    def __init__(self):
        super().__init__(
            SyntheticCorpus(10, seconds=1.0, sample_rate=8000), sample_rate=8000, seconds=0.01, batch_size=1
        )

    def batches(self, split, batch_size):
        assert (split, batch_size) == ("valid", 1)
        for item in range(10):
            waveform = torch.full((1, 1, 80), item / 10)
            mask = torch.ones(1, 80, dtype=torch.bool)
            yield MusicBatch(torch.tensor([item]), torch.tensor([-1]), waveform, mask, [f"clip {item}"])


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4])
@pytest.mark.parametrize("num_clips", [1, 5, 7, 100])
def test_processes_share_the_first_clips_without_repeating_any(num_clips, num_processes):
    parts = [share_out(held_back_clips(Data(), num_clips), 4, rank, num_processes) for rank in range(num_processes)]
    count = min(num_clips, 10)
    seen = []
    for part in parts:
        assert part.captions == [f"clip {item}" for item in range(count)]
        for places, batch in part.shares:
            assert len(batch) <= max(1, 4 // num_processes)
            assert places == batch.item.tolist(), "in one process's order the place is the item"
            seen += places
    assert sorted(seen) == list(range(count))


def test_prompts_become_clips_of_the_datas_length_with_a_noise_of_their_own():
    clips = list(prompted_clips(Data(), ["a waltz", "rain"]))
    assert [clip.captions for clip in clips] == [["a waltz"], ["rain"]]
    assert [tuple(clip.frame_mask.shape) for clip in clips] == [(1, 80)] * 2
    first, second = (clip.draws(0).normal("noise", (4,)) for clip in clips)
    assert not torch.equal(first, second)


class Module(LightningModule):
    """Parts in different modes."""

    def __init__(self):
        super().__init__()
        self.learning = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.frozen = nn.Dropout(0.5).eval()
        self.learning.train()


def draw():
    return random.random(), np.random.rand(), float(torch.rand(()))


@pytest.mark.parametrize("fails", [False, True])
def test_looking_leaves_modes_gradient_and_random_numbers_as_they_were(fails):
    module = Module()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    try:
        with undisturbed(module):
            assert not any(part.training for part in module.modules())
            assert not torch.is_grad_enabled()
            draw()
            if fails:
                raise RuntimeError("sampling failed")
    except RuntimeError:
        assert fails
    assert draw() == expected
    assert torch.is_grad_enabled()
    assert [part.training for part in module.modules()] == [True, True, True, True, False]


def test_a_picture_has_a_tone_where_it_belongs():
    time = torch.arange(16000) / 16000
    low, high = (spectrogram_picture(torch.sin(2 * math.pi * f * time), 16000).sum(-1).sum(1) for f in (200, 4000))
    assert len(low) == NUM_MELS * PIXELS_PER_MEL
    assert low.argmax() > 0.85 * len(low) > 0.4 * len(low) > high.argmax(), "low notes are at the bottom"
    louder, softer = (spectrogram_picture(gain * torch.sin(1000 * time), 16000).sum() for gain in (1.0, 0.01))
    assert louder > softer
