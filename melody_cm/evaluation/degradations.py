"""What a measure of music should notice: known damage, done to real music."""

import io

import librosa
import numpy as np
import soundfile
import torch
from jaxtyping import Float
from scipy import signal
from torch import Tensor

from melody_cm.randomness import keyed_generator

LOW_PASS_HZ = 1000.0
PITCH_STEPS = 4.0


def silence(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Nothing."""
    return torch.zeros_like(waveform)


def white_noise(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Noise as loud as the music was."""
    noise = torch.randn(waveform.shape, generator=keyed_generator(0, "selftest noise", 0, item))
    return (noise * waveform.square().mean().sqrt()).clamp(-1, 1)


def low_pass(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Without what lies above 1 kHz (Butterworth of order 4, forward and backward)."""
    sections = signal.butter(4, LOW_PASS_HZ, fs=sample_rate, output="sos")
    return torch.from_numpy(signal.sosfiltfilt(sections, waveform.double().numpy()).copy()).float()


def pitch_shift(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Four semitones higher, at the same tempo."""
    shifted = librosa.effects.pitch_shift(waveform.numpy(), sr=sample_rate, n_steps=PITCH_STEPS)
    return torch.from_numpy(np.ascontiguousarray(shifted, dtype=np.float32))


def half_volume(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """6 dB quieter."""
    return waveform / 2


def mp3(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Through an MP3 file of the lowest quality that libsndfile offers."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, format="MP3", compression_level=0.99)
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    return decoded[: len(waveform)]
