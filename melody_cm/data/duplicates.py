"""Clips of different splits that sound the same, found by a spectral fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.data.audio_files import AudioProblem, read_audio
from melody_cm.data.clips import SPLITS, Clip
from melody_cm.data.jobs import progress
from melody_cm.data.manifest import Corpus, open_corpus
from melody_cm.signal import MelFrontEnd, MelSettings

# 16 frames a second hold a rhythm; every codec and sample rate keeps what lies below 4 kHz.
SETTINGS = MelSettings(sample_rate=8000, n_fft=1024, hop_length=500, num_mels=32, f_min=60.0, f_max=3800.0)
FRAME_SECONDS = SETTINGS.hop_length / SETTINGS.sample_rate
WINDOW, HOP, MAX_SHIFT = 160, 80, 40
# Copies are above, at 20 kbit/s too; different pieces in one style, played by the same instruments, below 0.75.
THRESHOLD = 0.8
# Two windows are compared by what they share, but not by a quiet end alone.
MIN_SHARED_NORM = 0.25
BLOCK = 512


@dataclass
class Duplicate:
    """Two clips of different splits that sound the same."""

    first: Clip
    second: Clip
    similarity: float  # 1 for equal sound, about 0 for any two.
    offset: float  # Seconds by which the sound comes later in the second clip.


@dataclass
class DuplicateReport:
    """What was found."""

    found: list[Duplicate] = field(default_factory=list)  # Near duplicates across splits, the most similar first.
    compared: int = 0  # Clips that could be read.
    problems: list[str] = field(default_factory=list)  # A line for each other one.


class Window(NamedTuple):
    """Ten seconds of a clip, from a frame of it on, as a fingerprint (l, f)."""

    clip: Clip
    start: int
    fingerprint: Float[Tensor, "l f"]


def find_duplicates(corpus: str | Corpus, threshold: float = THRESHOLD) -> DuplicateReport:
    """Compare all clips of each split of a corpus, or of the one at a path, with all clips of the others; a ValueError
    for a threshold that is not above 0 and up to 1."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; give a similarity above 0, up to 1")
    clips = (open_corpus(corpus) if isinstance(corpus, str) else corpus).clips()
    report, windows = DuplicateReport(), {split: [] for split in SPLITS}
    for clip in progress(clips, f"reading {len(clips)} clips"):
        try:
            waveform = read_audio(clip.audio, clip.start, clip.duration, SETTINGS.sample_rate)
        except AudioProblem as problem:
            report.problems.append(f"{clip.where}: {problem}")
            continue
        report.compared += 1
        windows[clip.split] += [Window(clip, HOP * i, window) for i, window in enumerate(loudness_windows(waveform))]
    for one, other in combinations(windows.values(), 2):
        report.found += _matches(one, other, threshold)
    report.found.sort(key=lambda pair: (-pair.similarity, pair.first.id, pair.second.id))
    return report


def loudness_windows(waveform: Float[Tensor, " t"]) -> Float[Tensor, "n l f"]:
    """Windows of 10 s every 5 s of a waveform of 8000 Hz: how the loudness of 32 mel bands moves, at unit norm.

    The square root of the magnitude keeps quiet bands, which codecs change most, from counting like loud ones. A
    gain is divided out, a filter and a hum by taking each band's own mean away. Short ends are filled with zeros.
    """
    level = waveform / waveform.square().mean().sqrt().clamp(min=1e-9)
    loudness = (MelFrontEnd(SETTINGS)(level[None, None])[0] / 2).exp()
    starts = range(0, max(len(loudness) - WINDOW + HOP, 1), HOP)
    windows = [loudness[start : start + WINDOW] for start in starts]
    moving = [window - window.mean(dim=0) for window in windows]
    filled = torch.stack([F.pad(window, (0, 0, 0, WINDOW - len(window))) for window in moving])
    return filled / filled.norm(dim=(1, 2), keepdim=True).clamp(min=1e-6)


def similarity(
    one: Float[Tensor, "n l f"], other: Float[Tensor, "m l f"]
) -> tuple[Float[Tensor, "n m"], Int[Tensor, "n m"]]:
    """The correlation of what two windows share, each band about its own mean, at the shift (2.5 s at most) where it
    is greatest; and that shift, by which the sound comes later in the other, in frames."""
    best = torch.full((len(one), len(other)), -1.0)
    shifts = torch.zeros(len(one), len(other), dtype=torch.long)
    length = one.shape[1]
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        a = _centred(one[:, max(0, -shift) : length - max(0, shift)])
        b = _centred(other[:, max(0, shift) : length - max(0, -shift)])
        norms = a.norm(dim=1).clamp(min=MIN_SHARED_NORM)[:, None] * b.norm(dim=1).clamp(min=MIN_SHARED_NORM)
        correlation = a @ b.T / norms
        better = correlation > best
        best, shifts = torch.where(better, correlation, best), shifts.masked_fill(better, shift)
    return best, shifts


def _centred(windows: Float[Tensor, "n l f"]) -> Float[Tensor, "n d"]:
    return (windows - windows.mean(dim=1, keepdim=True)).flatten(1)


def _matches(one: Sequence[Window], other: Sequence[Window], threshold: float) -> list[Duplicate]:
    """The best match of each pair of clips, in blocks that bound the memory."""
    best: dict[tuple[str, str], Duplicate] = {}
    for i, j in product(range(0, len(one), BLOCK), range(0, len(other), BLOCK)):
        left, right = one[i : i + BLOCK], other[j : j + BLOCK]
        values, shifts = similarity(*(torch.stack([window.fingerprint for window in side]) for side in (left, right)))
        for a, b in (values >= threshold).nonzero().tolist():
            offset = FRAME_SECONDS * (int(shifts[a, b]) + right[b].start - left[a].start)
            pair = Duplicate(left[a].clip, right[b].clip, float(values[a, b]), offset)
            known = best.setdefault((pair.first.id, pair.second.id), pair)
            if pair.similarity > known.similarity:
                best[pair.first.id, pair.second.id] = pair
    return list(best.values())
