"""Mono crops out of sound files by seeking, and sound files that are never half written."""

import math
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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

from melody_cm.data.headers import CONTAINERS, SoundData, Spliced, closed_wav, ogg_problem, sound_data
from melody_cm.data.mpeg import counted, has_frames, magic_behind_tags, quiet
from melody_cm.data.texts import printable
from melody_cm.signal.levels import SILENT_PEAK
from melody_cm.storage import write_atomically

# Why a sound file cannot serve.
Reason = Literal["missing", "empty", "unreadable", "truncated", "silent", "not finite", "out of range", "too short"]

AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".w64", ".rf64", ".caf"),
    *(".au", ".snd"),
)
# Of what libsndfile reads, all that begins so; it looks for music for minutes in files that are none.
MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"riff", b"caff", b".snd", b"dns.")
# Sound in [-1, 1] may overshoot a little, above all after lossy codecs; samples beyond this have another range.
LOUDEST = 4.0
# Channels cancel in mono where their mean has less than this share of the loudest one's energy.
CANCELLED = 1e-4
# A file that gives more samples than this, and so many for each byte, is made to fill memory and time.
MANY_SAMPLES, SAMPLES_A_BYTE = 1 << 27, 256
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
    """A sound file, or the part of it that was asked for, which cannot serve as music: one line that names the file,
    and the reason in a word or two, for counting. It has a default because a DataLoader raises errors anew from
    their message alone."""

    def __init__(self, message: str, reason: Reason = "unreadable") -> None:
        super().__init__(printable(message))
        self.reason: Reason = reason


class UnusableFile(AudioProblem):
    """A sound file of which no part can serve."""


class AudioInfo(NamedTuple):
    """What a file's header says: sample_rate in Hz, number of channels, length in seconds."""

    sample_rate: int
    channels: int
    seconds: float


def audio_info(path: str | Path) -> AudioInfo:
    """The header of a sound file; an AudioProblem if there is none, or it is no sound file."""
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
        AudioProblem: unreadable, truncated, silent (a constant too), not finite or far beyond [-1, 1] in the crop, or
            less than 0.1 s of sound after start.
    """
    with _open(path) as sound:
        available = sound.available(start_seconds)
        first = round(start_seconds * sample_rate)
        length = round((available if seconds is None else seconds) * sample_rate)
        skipped, samples = sound.read_with_context(first, length, sample_rate)
        begin, end = (round(place * sound.rate / sample_rate) for place in (first - skipped, first - skipped + length))
        heard = Heard().of(samples[begin:end])  # Resampled, a constant would not be one at its ends.
        if sound.rate != sample_rate:
            samples = soxr.resample(samples, sound.rate, sample_rate, quality="HQ")
    crop = samples[first - skipped :][:length]
    heard.bad = Heard().of(crop).bad
    heard.check(path, sound.peak)
    return torch.from_numpy(np.clip(crop, -1.0, 1.0))


def scan_audio(
    path: str | Path, start_seconds: float, seconds: float | None, remark: Callable[[str], object] = id
) -> AudioInfo:
    """Read a part of a file to find what `read_audio` would find wrong, without keeping it, however long it is;
    arguments and errors as there.

    `remark` is called with a line for what `read_audio` mends: samples beyond 1, and channels that cancel. Returns what
    the header says.
    """
    with _open(path) as sound:
        available = sound.available(start_seconds)
        length = available if seconds is None else min(seconds, available)
        begin = round(start_seconds * sound.rate)
        heard = Heard()
        for block in sound.blocks(begin, begin + round(length * sound.rate)):
            heard.of(block)
        heard.check(path, sound.peak)
        if sound.peak > 1.0:
            remark(f"{path}: clipped, samples up to {sound.peak:.3g} lie beyond 1")
        if sound.cancels:
            remark(f"{path}: channels cancel in mono; the loudest one is taken")
        return sound.info


def stream_audio(path: str | Path, sample_rate: int) -> Iterator[Float[Tensor, " t"]]:
    """A whole file as mono fp32 blocks at `sample_rate` Hz, which may be silent: together what `read_audio` reads. An
    AudioProblem if it is unreadable or truncated."""
    with _open(path) as sound:
        blocks = sound.blocks(0, sound.frames)
        if sound.rate != sample_rate:
            resampler = soxr.ResampleStream(sound.rate, sample_rate, 1, dtype="float32", quality="HQ")
            last = (resampler.resample_chunk(np.zeros(0, np.float32), last=True) for _ in range(1))
            blocks = chain((resampler.resample_chunk(block) for block in blocks), last)
        for block in blocks:
            yield torch.from_numpy(np.clip(block, -1.0, 1.0))


def write_audio(path: str | Path, waveform: Float[Tensor, "*one t"], sample_rate: int) -> None:
    """Write a mono waveform in [-1, 1] with 16 bits, as WAV or FLAC by the file's suffix; a ValueError for another
    suffix, or for more than one channel."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".wav", ".flac"):
        raise ValueError(f"{path}: cannot write '{path.suffix}' files; end the name in .wav or .flac")
    if waveform.numel() != waveform.shape[-1]:
        raise ValueError(f"{path}: a mono waveform is needed, not one of shape {tuple(waveform.shape)}")
    samples = waveform.detach().float().clamp(-1.0, 1.0).cpu().reshape(-1).numpy()
    write_atomically(path, lambda aside: soundfile.write(aside, samples, sample_rate, "PCM_16", format=suffix[1:]))


@dataclass
class _Sound:
    """An open sound file, and how many frames it should have: more than can be read where its end is missing."""

    path: Path
    file: soundfile.SoundFile
    frames: int
    peak: float = 0.0  # Of all channels, as far as they were read.
    cancels: bool = False  # Whether channels did, as far as they were read.

    @property
    def rate(self) -> int:
        return self.file.samplerate

    @property
    def info(self) -> AudioInfo:
        return AudioInfo(self.rate, self.file.channels, self.frames / self.rate)

    def available(self, start_seconds: float) -> float:
        available = self.info.seconds - start_seconds
        if not available >= MIN_SECONDS:
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
        file, place, size = self.file, begin, self.path.stat().st_size
        try:
            file.seek(begin)
            while place < end:
                frames = min(max(1, BLOCK_SAMPLES // file.channels), end - place)
                samples = file.read(frames, dtype="float32", always_2d=True)
                if not len(samples):
                    break
                place += len(samples)
                if (place - begin) * file.channels > max(MANY_SAMPLES, SAMPLES_A_BYTE * size):
                    raise AudioProblem(
                        f"{self.path}: its {size} bytes hold {self.info.seconds / 3600:.1f} h; no music does"
                    )
                yield self._mono(samples)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            at = f"{place / self.rate:.2f} s"
            # Of an MP3 that was cut nothing more comes, without an error.
            if file.format == "MP3" or _has_end(self.path, place):
                raise AudioProblem(f"{self.path}: unreadable at {at} ({error})") from error
            raise AudioProblem(f"{self.path}: truncated, cannot be read on from {at}", "truncated") from error
        # MP3 headers may be off by some frames; more than that is a file whose end is missing.
        tolerance = MIN_SECONDS * self.rate if self.file.format == "MP3" else 0
        short = end - place > tolerance or place == begin < end
        if short or (place >= file.frames and ogg_problem(self.path)):
            raise AudioProblem(f"{self.path}: truncated, ends at {place / self.rate:.2f} s", "truncated")

    def _mono(self, samples: np.ndarray) -> np.ndarray:
        """The mean of the channels (t, c), or the loudest where they cancel."""
        peak = max(float(samples.max()), -float(samples.min()))
        self.peak = max(self.peak, peak)
        # Over so short an axis, `mean` takes 4 times as long.
        mono = np.einsum("tc->t", samples) / self.file.channels
        if self.file.channels == 1 or not SILENT_PEAK <= peak <= LOUDEST or np.abs(mono).max() > peak / 10:
            return mono
        energies = np.einsum("tc,tc->c", samples, samples)
        if mono @ mono >= CANCELLED * energies.max():
            return mono
        self.cancels = True
        return samples[:, energies.argmax()]


@dataclass
class Heard:
    """What is known of mono samples that were read: the lowest, the highest, and how many are no numbers."""

    low: float = math.inf
    high: float = -math.inf
    bad: int = 0

    def of(self, samples: np.ndarray) -> "Heard":
        """The same with some more."""
        finite = np.isfinite(samples)
        bad = int(samples.size - np.count_nonzero(finite))
        samples = samples[finite] if bad else samples
        self.low = min(self.low, samples.min(initial=math.inf))
        self.high = max(self.high, samples.max(initial=-math.inf))
        self.bad += bad
        return self

    def check(self, path: str | Path, peak: float) -> None:
        """Refuse what is no music; `peak` is that of all channels."""
        if self.bad:
            raise AudioProblem(f"{path}: {self.bad} samples are NaN or infinite", "not finite")
        if peak > LOUDEST:
            message = f"{path}: samples up to {peak:.3g}; sound lies in -1 to 1, so scale the file to that"
            raise AudioProblem(message, "out of range")
        if self.high - self.low < 2 * SILENT_PEAK and max(-self.low, self.high) < SILENT_PEAK:
            raise AudioProblem(f"{path}: silent, no sample above {SILENT_PEAK:g}", "silent")
        if self.high - self.low < SILENT_PEAK:
            raise AudioProblem(f"{path}: silent, every sample is {self.high:.3g}", "silent")


@contextmanager
def _open(path: str | Path) -> Iterator[_Sound]:
    path = Path(path)
    if not os.path.isfile(path):  # `Path.is_file` raises an error where the name is too long.
        raise UnusableFile(f"{path}: no such file{_other_spelling(path)}", "missing")
    if path.stat().st_size == 0:
        raise UnusableFile(f"{path}: the file is empty", "empty")
    with ExitStack() as stack:
        try:
            data, is_mpeg = _known(path)
            if is_mpeg:
                stack.enter_context(quiet())
            frames = counted(path) if is_mpeg else None
        except OSError as error:
            raise UnusableFile(f"{path}: cannot be opened ({error.strerror})") from error
        source: bytes | Spliced = os.fsencode(path)  # As text, libsndfile's wrapper refuses names that are not UTF-8.
        if frames or (data and data.unclosed):
            source = stack.enter_context(Spliced(path, *frames) if frames else closed_wav(path, data))
        file = stack.enter_context(_decoder(path, source, data))
        _check_header(path, file)
        yield _Sound(path, file, data.promised_frames(file.frames) if data else file.frames)


def _other_spelling(path: Path) -> str:
    """What a path that leads nowhere may have meant."""
    if os.path.islink(path):  # False, not an error, for a name that is too long.
        return "; it is a link that leads to none"
    if "\\" in path.name:
        return "; write / where it has \\"
    with suppress(OSError, ValueError):
        near = [name for name in os.listdir(path.parent) if _folded(name) == _folded(path.name)]
        return f"; {near[0]!r} is there, spelled otherwise" if near else ""
    return ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _known(path: Path) -> tuple[SoundData | None, bool]:
    """Where the samples are, if the header says it; and whether it is an MP3 file."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic in MAGIC:
        data = sound_data(path)
        if data is None and magic in CONTAINERS:
            raise UnusableFile(f"{path}: not a readable sound file (no samples in it)")
        return data, False
    if magic_behind_tags(path) == b"fLaC":
        return None, False
    if not has_frames(path):
        raise UnusableFile(f"{path}: not a readable sound file (it begins like none)")
    return None, True


def _decoder(path: Path, source: bytes | Spliced, data: SoundData | None) -> soundfile.SoundFile:
    problem = ogg_problem(path)
    if problem and problem != "truncated":
        raise UnusableFile(f"{path}: holds {problem}; write it again as one")
    try:
        return soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        if problem or (data and data.promised > data.present):
            raise UnusableFile(f"{path}: truncated, too little is left to be read", "truncated") from error
        raise UnusableFile(f"{path}: not a readable sound file ({error})") from error


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    if file.samplerate not in SAMPLE_RATES:
        ends = f"{SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}"
        raise UnusableFile(f"{path}: its header says {file.samplerate} Hz; {ends} can be read, so it is damaged")
    if not file.seekable():
        raise UnusableFile(f"{path}: {file.subtype_info} cannot be read from any place; write it again as FLAC or PCM")
    if file.frames >= UNKNOWN_FRAMES:
        raise UnusableFile(f"{path}: its header does not say how long it is; write it again with its length")


def _has_end(path: str | Path, place: int) -> bool:
    """Whether a file that cannot be read on at a place can be read at its end: then it is damaged, not cut short."""
    try:
        # Opened anew: libsndfile does not recover from errors.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            file.seek(file.frames - 1)
            return place < file.frames and len(file.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError):
        return False
