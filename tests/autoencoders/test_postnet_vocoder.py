import numpy as np
import pytest
import scipy.signal
import torch
from torch.optim import AdamW

from melody_cm.autoencoders import GriffinLim, PostNetVocoder
from melody_cm.batch import MusicBatch
from melody_cm.signal import MelFrontEnd, inverse_mel
from melody_cm.training import Optimization, PostNetTraining

MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}


def tiny(**changes) -> PostNetVocoder:
    return PostNetVocoder(
        **(MEL | {"width": 24, "hidden_width": 48, "num_blocks": 2, "iterations": 8} | changes)
    ).eval()


def batch(clips: int = 2) -> MusicBatch:
    time = torch.arange(8000) / 8000
    hertz = torch.tensor([440.0, 620.0, 1000.0, 1300.0])[:clips, None]
    waveform = 0.4 * (2 * torch.pi * hertz * time).sin() * (1 + 0.5 * (2 * torch.pi * 3 * time).sin())
    index = torch.arange(clips)
    mask = torch.ones(clips, 8000, dtype=torch.bool)
    return MusicBatch(index, torch.zeros_like(index), waveform[:, None], mask, ["a tone"] * clips)


@torch.no_grad()
def test_an_untrained_one_is_griffin_lim():
    mel = MelFrontEnd(tiny().mel_settings)(batch().waveform)
    expected = GriffinLim(**MEL, iterations=8)(mel)
    made = tiny()(mel)
    assert made.shape == (2, 1, 80 * mel.shape[1])
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_the_network_corrects_logarithms_within_its_limit():
    vocoder, mel = tiny(), torch.randn(1, 9, 16)
    known = inverse_mel(mel, vocoder.mel_settings).clamp(min=1e-5)
    vocoder.output.bias.fill_(0.1)
    torch.testing.assert_close(vocoder.magnitude(mel), known * np.exp(5 * np.tanh(0.1 / 5)))
    vocoder.output.bias.fill_(1e4)
    torch.testing.assert_close(vocoder.magnitude(mel), known * np.exp(5.0))


def test_the_loss_is_the_distance_of_compressed_magnitudes_by_scipy():
    stage = PostNetTraining(tiny(), Optimization(), sample_rate=8000)
    given = batch()
    loss = stage.losses(stage.trained, given)["magnitude"].item()
    mel = stage.mel(given.waveform)
    window, expected = scipy.signal.get_window("hann", 256), []
    for clip, bins in zip(given.waveform[:, 0].numpy(), mel, strict=True):
        padded = np.pad(clip, 128, mode="reflect")
        frames = [np.abs(np.fft.rfft(window * padded[80 * i : 80 * i + 256])) for i in range(len(bins))]
        known = inverse_mel(bins[None], stage.trained["vocoder"].mel_settings)[0].clamp(min=1e-5).numpy()
        expected.append(np.abs(np.stack(frames) ** 0.3 - known**0.3).mean())
    assert loss == pytest.approx(float(np.mean(expected)), rel=1e-3)


def test_it_learns_what_griffin_lim_does_not_know():
    torch.manual_seed(0)
    stage = PostNetTraining(tiny(), Optimization(), sample_rate=8000)
    vocoder, losses = stage.trained["vocoder"].train(), []
    optimizer = AdamW(vocoder.parameters(), lr=3e-3)
    for _ in range(60):
        loss = stage.losses(stage.trained, batch())["magnitude"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_kernel_keeps_the_number_of_frames():
    with pytest.raises(ValueError, match="kernel 6 must be odd to keep the number of frames; use 7"):
        tiny(kernel=6)
