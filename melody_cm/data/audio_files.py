"""Mono crops out of sound files by seeking, and sound files that are never half written."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.storage import write_atomically

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MIN_SECONDS = 0.1
SILENT_PEAK = 1e-4
# Read before and after a crop: resampling filters and MP3's bit reservoir look that far.
CONTEXT_SECONDS = 0.25


class AudioProblem(ValueError):
    """A sound file, or the part of it that was asked for, which cannot serve as music; the message names the file."""


class AudioInfo(NamedTuple):
    """What a file's header says: sample_rate in Hz, number of channels, length in seconds."""

    sample_rate: int
    channels: int
    seconds: float


def audio_info(path: str | Path) -> AudioInfo:
    """The header of a sound file.

    Raises:
        AudioProblem: there is no such file, or it is no sound file.
    """
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames / file.samplerate)


def read_audio(path: str | Path, start_seconds: float, seconds: float | None, sample_rate: int) -> Float[Tensor, " t"]:
    """A mono fp32 crop in [-1, 1], read by seeking: equal to cutting the resampled whole file.

    Args:
        path: wav, flac, ogg (Vorbis or Opus) or mp3.
        start_seconds: where the crop begins in the file.
        seconds: length of the crop, None for everything up to the end.
        sample_rate: Hz of the result; channels are averaged.

    Returns:
        round(seconds * sample_rate) samples, fewer only where the file ends before.

    Raises:
        AudioProblem: unreadable, truncated, silent or not finite in the crop, or less than 0.1 s of sound after start.
    """
    with _open(path) as file:
        available = file.frames / file.samplerate - start_seconds
        if available < MIN_SECONDS:
            raise AudioProblem(f"{path}: too short, {max(available, 0.0):.3f} s of sound after {start_seconds:g} s")
        first = round(start_seconds * sample_rate)
        length = round((available if seconds is None else seconds) * sample_rate)
        skipped, samples = _read_with_context(file, path, first, length, sample_rate)
        if file.samplerate != sample_rate:
            samples = soxr.resample(samples, file.samplerate, sample_rate, quality="HQ")
    crop = samples[first - skipped :][:length]
    _check_sound(path, crop)
    return torch.from_numpy(np.clip(crop, -1.0, 1.0))


def write_audio(path: str | Path, waveform: Float[Tensor, "*one t"], sample_rate: int) -> None:
    """Write a mono waveform in [-1, 1] with 16 bits, as WAV or FLAC by the file's suffix.

    Raises:
        ValueError: another suffix, or more than one channel.
    """
    path = Path(path)
    formats = {".wav": "WAV", ".flac": "FLAC"}
    if path.suffix.lower() not in formats:
        raise ValueError(f"{path}: cannot write '{path.suffix}' files; end the name in .wav or .flac")
    if waveform.numel() != waveform.shape[-1]:
        raise ValueError(f"{path}: a mono waveform is needed, not one of shape {tuple(waveform.shape)}")
    samples = waveform.detach().float().clamp(-1.0, 1.0).cpu().reshape(-1).numpy()
    form = formats[path.suffix.lower()]
    write_atomically(path, lambda aside: soundfile.write(aside, samples, sample_rate, subtype="PCM_16", format=form))


def _open(path: str | Path) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise AudioProblem(f"{path}: no such file")
    if Path(path).stat().st_size == 0:
        raise AudioProblem(f"{path}: the file is empty")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioProblem(f"{path}: not a readable sound file ({error})") from error


def _read_with_context(
    file: soundfile.SoundFile, path: str | Path, first: int, length: int, sample_rate: int
) -> tuple[int, np.ndarray]:
    """The file's own samples around target samples first .. first + length - 1, and how many target samples lie
    before them. They begin where both sample grids meet, so that resampling a part equals resampling the whole."""
    rate = file.samplerate
    grid = rate // math.gcd(rate, sample_rate)
    context = round(CONTEXT_SECONDS * rate)
    begin = max(0, first * rate // sample_rate - context) // grid * grid
    end = min(file.frames, -(-(first + length) * rate // sample_rate) + context)
    try:
        file.seek(begin)
        samples = file.read(end - begin, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioProblem(f"{path}: unreadable at {begin / rate:.2f} s ({error})") from error
    # MP3 headers may be off by some frames; more than that is a file whose end is missing.
    if end - begin - len(samples) > MIN_SECONDS * rate:
        raise AudioProblem(f"{path}: truncated, ends at {(begin + len(samples)) / rate:.2f} s")
    return begin * sample_rate // rate, samples.mean(axis=1)


def _check_sound(path: str | Path, crop: np.ndarray) -> None:
    if not np.isfinite(crop).all():
        raise AudioProblem(f"{path}: {np.count_nonzero(~np.isfinite(crop))} samples are NaN or infinite")
    if not crop.size or np.abs(crop).max() < SILENT_PEAK:
        raise AudioProblem(f"{path}: silent, no sample above {SILENT_PEAK:g}")
