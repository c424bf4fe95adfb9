"""Mono crops out of sound files by seeking, and sound files that are never half written."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data.headers import UnclosedWav, lacks_ogg_end, wav_data
from melody_cm.signal.levels import SILENT_PEAK
from melody_cm.storage import write_atomically

# Why a sound file cannot serve.
Reason = Literal["missing", "empty", "unreadable", "truncated", "silent", "not finite", "too short"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MIN_SECONDS = 0.1
# Read before and after a crop: resampling filters and MP3's bit reservoir look that far.
CONTEXT_SECONDS = 0.25
# Samples of all channels that are decoded at once, so that neither long files nor headers that lie fill the memory.
BLOCK_SAMPLES = 1 << 21
# A header with another rate (Hz) is damaged.
SAMPLE_RATES = range(1000, 768001)
# What libsndfile says of a FLAC stream of unknown length is far beyond this.
UNKNOWN_FRAMES = 1 << 48


class AudioProblem(ValueError):
    """A sound file, or the part of it that was asked for, which cannot serve as music.

    Args:
        message: one line that names the file.
        reason: the same in a word or two, for counting. It has a default because a DataLoader raises the errors of
            its workers anew from their message alone.
    """

    def __init__(self, message: str, reason: Reason = "unreadable") -> None:
        super().__init__(message)
        self.reason: Reason = reason


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
    with _open(path) as sound:
        return sound.info


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
    with _open(path) as sound:
        available = sound.available(start_seconds)
        first = round(start_seconds * sample_rate)
        length = round((available if seconds is None else seconds) * sample_rate)
        skipped, samples = sound.read_with_context(first, length, sample_rate)
        if sound.rate != sample_rate:
            samples = soxr.resample(samples, sound.rate, sample_rate, quality="HQ")
    crop = samples[first - skipped :][:length]
    _check_sound(path, *_finite_peak(crop))
    return torch.from_numpy(np.clip(crop, -1.0, 1.0))


def scan_audio(path: str | Path, start_seconds: float, seconds: float | None) -> AudioInfo:
    """Read a part of a file to find what `read_audio` would find wrong, without keeping it, however long it is.

    Args:
        path: as of `read_audio`.
        start_seconds: where the part begins in the file.
        seconds: length of the part, None for everything up to the end.

    Returns:
        What the header says.

    Raises:
        AudioProblem: as of `read_audio`.
    """
    with _open(path) as sound:
        available = sound.available(start_seconds)
        length = available if seconds is None else min(seconds, available)
        begin = round(start_seconds * sound.rate)
        found = [_finite_peak(block) for block in sound.blocks(begin, begin + round(length * sound.rate))]
        _check_sound(path, sum(bad for bad, _ in found), max((peak for _, peak in found), default=0.0))
        return sound.info


def stream_audio(path: str | Path, sample_rate: int) -> Iterator[Float[Tensor, " t"]]:
    """A whole file as mono fp32 blocks at `sample_rate` Hz, which may be silent: together what `read_audio` reads.

    Raises:
        AudioProblem: unreadable or truncated.
    """
    with _open(path) as sound:
        blocks = sound.blocks(0, sound.frames)
        if sound.rate != sample_rate:
            resampler = soxr.ResampleStream(sound.rate, sample_rate, 1, dtype="float32", quality="HQ")
            last = (resampler.resample_chunk(np.zeros(0, np.float32), last=True) for _ in range(1))
            blocks = chain((resampler.resample_chunk(block) for block in blocks), last)
        for block in blocks:
            yield torch.from_numpy(np.clip(block, -1.0, 1.0))


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


@dataclass
class _Sound:
    """An open sound file, and how many frames it should have: more than can be read where its end is missing."""

    path: Path
    file: soundfile.SoundFile
    frames: int

    @property
    def rate(self) -> int:
        return self.file.samplerate

    @property
    def info(self) -> AudioInfo:
        return AudioInfo(self.rate, self.file.channels, self.frames / self.rate)

    def available(self, start_seconds: float) -> float:
        """Seconds of sound after start."""
        available = self.info.seconds - start_seconds
        if available < MIN_SECONDS:
            message = f"{self.path}: too short, {max(available, 0.0):.3f} s of sound after {start_seconds:g} s"
            raise AudioProblem(message, "too short")
        return available

    def read_with_context(self, first: int, length: int, sample_rate: int) -> tuple[int, np.ndarray]:
        """The file's own samples around target samples first .. first + length - 1, and how many target samples lie
        before them. They begin where both sample grids meet, so that resampling a part equals resampling the whole."""
        grid = self.rate // math.gcd(self.rate, sample_rate)
        context = round(CONTEXT_SECONDS * self.rate)
        begin = max(0, first * self.rate // sample_rate - context) // grid * grid
        end = min(self.frames, -(-(first + length) * self.rate // sample_rate) + context)
        return begin * sample_rate // self.rate, np.concatenate(list(self.blocks(begin, end)))

    def blocks(self, begin: int, end: int) -> Iterator[np.ndarray]:
        """Frames begin .. end - 1, averaged over channels, a block at a time; an AudioProblem where that fails."""
        file, place = self.file, begin
        try:
            file.seek(begin)
            while place < end:
                frames = min(max(1, BLOCK_SAMPLES // file.channels), end - place)
                samples = file.read(frames, dtype="float32", always_2d=True)
                if not len(samples):
                    break
                place += len(samples)
                # Over so short an axis, `mean` takes 4 times as long.
                yield np.einsum("tc->t", samples) / file.channels
        except (soundfile.LibsndfileError, RuntimeError) as error:
            at = f"{place / self.rate:.2f} s"
            if _has_end(self.path, place):
                raise AudioProblem(f"{self.path}: unreadable at {at} ({error})") from error
            raise AudioProblem(f"{self.path}: truncated, cannot be read on from {at}", "truncated") from error
        # MP3 headers may be off by some frames; more than that is a file whose end is missing.
        short = end - place > MIN_SECONDS * self.rate or place == begin < end
        if short or (place >= file.frames and lacks_ogg_end(self.path)):
            raise AudioProblem(f"{self.path}: truncated, ends at {place / self.rate:.2f} s", "truncated")


@contextmanager
def _open(path: str | Path) -> Iterator[_Sound]:
    path = Path(path)
    if not os.path.isfile(path):  # `Path.is_file` raises an error where the name is too long.
        raise AudioProblem(f"{path}: no such file", "missing")
    if path.stat().st_size == 0:
        raise AudioProblem(f"{path}: the file is empty", "empty")
    try:
        wav = wav_data(path)
    except OSError as error:
        raise AudioProblem(f"{path}: cannot be opened ({error.strerror})") from error
    # As bytes: libsndfile's wrapper refuses names that are not UTF-8.
    unclosed = UnclosedWav(path, wav) if wav and wav.unclosed else nullcontext(os.fsencode(path))
    with unclosed as source, _decoder(path, source) as file:
        _check_header(path, file)
        yield _Sound(path, file, wav.promised_frames(file.frames) if wav else file.frames)


def _decoder(path: Path, source: bytes | UnclosedWav) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        if lacks_ogg_end(path):
            raise AudioProblem(f"{path}: truncated, too little is left to be read", "truncated") from error
        raise AudioProblem(f"{path}: not a readable sound file ({error})") from error


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    if file.samplerate not in SAMPLE_RATES:
        ends = f"{SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}"
        raise AudioProblem(f"{path}: its header says {file.samplerate} Hz; {ends} can be read, so it is damaged")
    if file.frames >= UNKNOWN_FRAMES:
        raise AudioProblem(f"{path}: its header does not say how long it is; write it again with its length")


def _has_end(path: str | Path, place: int) -> bool:
    """Whether a file that cannot be read on at a place can be read at its end: then it is damaged, not cut short."""
    try:
        # Opened anew: libsndfile does not recover from errors.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            file.seek(file.frames - 1)
            return place < file.frames and len(file.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError):
        return False


def _finite_peak(samples: np.ndarray) -> tuple[int, float]:
    """How many samples are NaN or infinite, and the largest magnitude of the others."""
    finite = np.isfinite(samples)
    bad = int(samples.size - np.count_nonzero(finite))
    return bad, float(np.abs(samples[finite] if bad else samples).max(initial=0.0))


def _check_sound(path: str | Path, bad: int, peak: float) -> None:
    if bad:
        raise AudioProblem(f"{path}: {bad} samples are NaN or infinite", "not finite")
    if peak < SILENT_PEAK:
        raise AudioProblem(f"{path}: silent, no sample above {SILENT_PEAK:g}", "silent")
