"""Coherence of long music, on signals whose answer is known."""

import math

import librosa
import numpy as np
import pytest
import torch
from toy_systems import SAMPLE_RATE as TOY_RATE
from toy_systems import ToyEmbedding, ToyJointEmbedding

from melody_cm.evaluation import (
    chroma_agreement,
    diversity,
    seam_ratio,
    segment_similarity,
    segment_vectors,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.coherence import segments

RATE = 16000


def tone(hertz, seconds, rate=RATE):
    return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def clicks(beats_a_minute, seconds):
    samples, generator = torch.zeros(round(seconds * RATE)), torch.Generator().manual_seed(0)
    burst = 0.5 * torch.randn(400, generator=generator) * torch.linspace(1, 0, 400)
    for place in range(0, len(samples) - 400, round(RATE * 60 / beats_a_minute)):
        samples[place : place + 400] += burst
    return samples


def clip(*parts):
    return torch.cat(parts)[None, None]


def test_music_that_changes_everywhere_alike_has_ratio_1():
    mel = torch.arange(100.0)[None, :, None] % 2 * torch.rand(2, 1, 5)
    torch.testing.assert_close(seam_ratio(mel, [30, 60]), torch.ones(2))


def test_the_ratio_is_a_mean_over_pairs_of_frames():
    differences = np.random.default_rng(0).normal(size=(49, 3)).astype(np.float32)
    mel = torch.from_numpy(np.concatenate([np.zeros((1, 3), np.float32), differences.cumsum(0)]))[None]
    at, elsewhere = [], []
    for pair in range(49):  # Pair i is frames i and i + 1; joint 20 is between frames 19 and 20.
        (at if 17 <= pair <= 21 or pair >= 47 else elsewhere).append(np.abs(differences[pair]).mean())
    assert float(seam_ratio(mel, [20, 50], radius=2)) == pytest.approx(np.mean(at) / np.mean(elsewhere), rel=1e-5)


def test_a_step_at_a_joint_is_loud_and_elsewhere_it_is_not():
    noise = 0.1 * torch.randn(1, 200, 4, generator=torch.Generator().manual_seed(0))
    noise[:, 100:] += 5
    assert float(seam_ratio(noise, [100])) > 3
    assert float(seam_ratio(noise, [50])) < 1


def test_a_constant_clip_has_no_ratio():
    mel = torch.stack([torch.ones(50, 3), torch.arange(150.0).reshape(50, 3)])
    ratio = seam_ratio(mel, [25])
    assert ratio[0].isnan()
    assert float(ratio[1]) == pytest.approx(1)


@pytest.mark.parametrize("joints", [[], [500], list(range(0, 50, 2))])
def test_joints_that_leave_nothing_to_compare_are_refused(joints):
    with pytest.raises(ValueError, match="nothing to compare"):
        seam_ratio(torch.rand(1, 50, 2), joints)


def test_the_joint_of_two_sounds_is_found_at_any_sample_rate():
    for rate in (16000, 24000):
        generator = torch.Generator().manual_seed(0)
        joined = clip(tone(300, 2, rate), tone(3000, 2, rate)) + 0.003 * torch.randn(4 * rate, generator=generator)
        assert float(waveform_seam_ratio(joined, rate, [2.0])) > 2
        assert float(waveform_seam_ratio(joined, rate, [1.0])) < 1


def test_what_is_repeated_is_similar_and_what_is_unrelated_is_not():
    generator = torch.Generator().manual_seed(0)
    one = 0.3 * torch.randn(5 * TOY_RATE, generator=generator)
    for embedding in (ToyEmbedding(), ToyJointEmbedding()):
        repeated = segment_similarity(embedding, clip(one, one, one), TOY_RATE)
        assert (repeated.adjacent, repeated.all_pairs) == (pytest.approx(1), pytest.approx(1))
    # Mean and deviation of the toy: (1, 0), (0, 0.5), (1, 0): neighbours are at right angles, the ends are alike.
    level, wave = torch.ones(5 * TOY_RATE), tone(80, 5, TOY_RATE)
    mixed = segment_similarity(ToyEmbedding(), clip(level, wave, level), TOY_RATE)
    assert mixed.adjacent == pytest.approx(0, abs=1e-3)
    assert mixed.all_pairs == pytest.approx(1 / 3, abs=1e-3)
    # Seen from the middle between the two, they are opposites.
    deviation = 0.3 / math.sqrt(2) * math.sqrt(100 / 99)
    middle = torch.tensor([0.5, deviation / 2])
    centred = segment_similarity(ToyEmbedding(), clip(level, wave, level), TOY_RATE, centre=middle)
    assert (centred.adjacent, centred.all_pairs) == (pytest.approx(-1, abs=1e-3), pytest.approx(-1 / 3, abs=1e-3))


def test_a_clip_has_one_vector_the_mean_of_its_frames():
    waveform = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0))
    vectors = segment_vectors(ToyEmbedding(), waveform, TOY_RATE)
    torch.testing.assert_close(vectors, ToyEmbedding()(waveform).mean(1))


def test_diversity_is_0_where_the_seed_changes_nothing_and_1_for_unrelated_clips():
    assert diversity(torch.tensor([[1.0, 2.0]] * 4)) == pytest.approx(0)
    assert diversity(torch.eye(3)) == pytest.approx(1)
    assert diversity(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])) == pytest.approx(2 / 3)
    far = torch.tensor([1000.0, 1000.0])
    assert diversity(torch.eye(2) + far) < 1e-5
    assert diversity(torch.eye(2) + far, far) == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="1 clips have no diversity"):
        diversity(torch.ones(1, 2))


def test_tempos_agree_up_to_an_octave():
    same = tempo_agreement(clip(clicks(100, 5), clicks(100, 5), clicks(100, 5)), RATE)
    assert (same.adjacent, same.all_pairs) == (1.0, 1.0)
    mixed = tempo_agreement(clip(clicks(100, 5), clicks(140, 5), clicks(100, 5)), RATE)
    assert mixed.adjacent == 0.0
    assert mixed.all_pairs == pytest.approx(1 / 3)
    assert tempo_agreement(clip(clicks(90, 5), clicks(180, 5)), RATE).all_pairs == 1.0


def test_chroma_agrees_for_the_same_pitch_classes_and_not_for_others():
    a, a_higher, d_sharp = tone(220, 5), tone(440, 5), tone(311.13, 5)
    assert chroma_agreement(clip(a, a_higher, a), RATE).adjacent > 0.95
    mixed = chroma_agreement(clip(a, d_sharp, a), RATE)
    assert mixed.adjacent < 0.2
    assert mixed.all_pairs == pytest.approx((2 * mixed.adjacent + 1) / 3, abs=0.01)


def test_both_agreements_are_those_of_librosa_and_numpy_pair_by_pair():
    music = [clicks(100, 5) + tone(220, 5), clicks(140, 5) + tone(311.13, 5), clicks(101, 5) + tone(233.08, 5)]
    chroma = [librosa.feature.chroma_stft(y=one.numpy(), sr=RATE, tuning=0.0).mean(1) for one in music]
    tempos = [float(librosa.feature.tempo(y=one.numpy(), sr=RATE)[0]) for one in music]
    pairs = [(0, 1), (0, 2), (1, 2)]
    alike = [np.corrcoef(chroma[i], chroma[j])[0, 1] for i, j in pairs]
    found = chroma_agreement(clip(*music), RATE)
    assert found.all_pairs == pytest.approx(np.mean(alike), abs=1e-5)
    assert found.adjacent == pytest.approx((alike[0] + alike[2]) / 2, abs=1e-5)
    near = [
        any(abs(math.log2(tempos[i] / tempos[j] * octave)) <= math.log2(1.04) for octave in (0.5, 1, 2))
        for i, j in pairs
    ]
    assert tempo_agreement(clip(*music), RATE).all_pairs == pytest.approx(np.mean(near))


@pytest.mark.parametrize("measure", [tempo_agreement, chroma_agreement])
def test_silent_segments_are_left_out(measure):
    sounding, silent = clicks(100, 5) + tone(220, 5), torch.zeros(5 * RATE)
    one = measure(clip(sounding, silent, sounding), RATE)
    assert one.all_pairs == pytest.approx(1, abs=1e-3)
    assert math.isnan(one.adjacent)


def test_segments_lie_end_to_end():
    pieces = segments(torch.arange(11.0).expand(2, 1, -1), 1, 5.0)
    assert pieces.shape == (2, 2, 1, 5)
    assert pieces[1, 1, 0].tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(ValueError, match=r"9 s has fewer than 2 segments of 5 s"):
        segments(torch.zeros(1, 1, 9), 1, 5.0)
