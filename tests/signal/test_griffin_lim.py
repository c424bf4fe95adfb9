import librosa
import pytest
import torch
from torch.nn.functional import l1_loss

from melody_cm.signal import (
    MelFrontEnd,
    MelSettings,
    griffin_lim,
    inverse_mel,
    mel_filterbank,
    mel_to_waveform,
    stft_magnitude,
)

SETTINGS = MelSettings(16000, 1024, 160, 64, 0.0, 8000.0)


def chord(samples: int = 16000, batch: int = 2) -> torch.Tensor:
    time = torch.arange(samples) / 16000
    pitches = torch.tensor([220.0, 330.0, 1760.0]) * (1 + torch.arange(batch)[:, None] / 12)
    tones = torch.sin(2 * torch.pi * pitches[..., None] * time).sum(1)
    return (0.2 * tones + 0.01 * torch.randn(batch, samples))[:, None]


def test_inverse_mel_is_non_negative_and_has_the_mel():
    filterbank, mel = mel_filterbank(SETTINGS), MelFrontEnd(SETTINGS)(chord())
    magnitude = inverse_mel(mel, SETTINGS)
    clamped_pseudo_inverse = (mel.exp() @ torch.linalg.pinv(filterbank).T).clamp(min=0)
    error, without_refinement = (
        l1_loss((x @ filterbank.T).clamp(min=1e-5).log(), mel) for x in (magnitude, clamped_pseudo_inverse)
    )
    assert magnitude.min() >= 0
    assert error < 0.1
    assert error < without_refinement / 1.5


def test_mel_to_waveform_to_mel():
    front_end = MelFrontEnd(SETTINGS)
    mel = front_end(chord())
    errors = [l1_loss(front_end(mel_to_waveform(mel, SETTINGS, iterations)), mel) for iterations in (0, 16)]
    assert errors[1] < 0.2
    assert errors[1] < errors[0] / 2


def spectral_convergence(waveform: torch.Tensor, magnitude: torch.Tensor) -> float:
    return ((stft_magnitude(waveform, 512, 128) - magnitude).norm() / magnitude.norm()).item()


def test_as_good_as_librosa():
    magnitude = stft_magnitude(chord(8000, 1)[:, 0], 512, 128)
    ours = griffin_lim(magnitude, 128, 8000, iterations=32)
    theirs = librosa.griffinlim(magnitude[0].T.numpy(), n_iter=32, hop_length=128, random_state=0, length=8000,
                                pad_mode="reflect")  # fmt: skip
    assert spectral_convergence(ours, magnitude) < 1.2 * spectral_convergence(torch.from_numpy(theirs)[None], magnitude)


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_length_is_frames_times_hop(frames):
    assert mel_to_waveform(torch.zeros(2, frames, 64), SETTINGS, 2).shape == (2, 1, frames * 160)


def test_deterministic_and_independent_of_the_batch():
    mel = MelFrontEnd(SETTINGS)(chord(8000, 8))
    together = mel_to_waveform(mel, SETTINGS, 4)
    torch.manual_seed(1)
    assert torch.equal(mel_to_waveform(mel, SETTINGS, 4), together)
    torch.testing.assert_close(mel_to_waveform(mel[3:4], SETTINGS, 4), together[3:4], atol=1e-4, rtol=0)


def test_silence_stays_silent():
    silence = torch.full((1, 20, 64), MelFrontEnd(SETTINGS)(torch.zeros(1, 1, 160)).min().item())
    assert mel_to_waveform(silence, SETTINGS, 8).abs().max() < 1e-3
