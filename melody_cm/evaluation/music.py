"""Measures of single clips that have a meaning in music: pitch, rhythm, level, spectrum, traces of a decoder.

None of them says by itself that music is good: real music fills a range (`middle_half`), and both ends beyond it are
unlike it. Waveforms are mono (t,), and NaN means that a clip has nothing to measure.
"""

import math
from collections.abc import Mapping, Sequence

import librosa
import numpy as np
import torch
from jaxtyping import Float
from scipy import signal
from torch import Tensor

from melody_cm.signal import resample, stft_magnitude
from melody_cm.signal.levels import SILENT_PEAK
from melody_cm.signal.loudness import loudness

SAMPLE_RATE, HOP_LENGTH = 22050, 512  # Of chroma, pitch, onsets and tempo: librosa's.
PITCH_FRAME, PITCH_RANGE = 2048, (55.0, 1760.0)
TEMPO_RANGE = (40.0, 240.0)
SPECTRUM_FRAME, SPECTRUM_HOP = 2048, 512
DYNAMIC_RANGE = 80.0  # dB below a clip's loudest bin, under which spectra count as equally silent.
COMB_RESOLUTION = 16  # Bins of the spectrum between two teeth of the comb.


def music_measures(waveform: Float[Tensor, " t"], sample_rate: int) -> dict[str, float]:
    """The measures of a clip that need no other one, by name."""
    level = {"level_dbfs": level_dbfs(waveform), "loudness_lufs": loudness(waveform, sample_rate)}
    if waveform.abs().max() < SILENT_PEAK:
        return level | dict.fromkeys(("chroma_clarity", "pitch_clarity", "onset_strength", "tempo_clarity"), math.nan)
    samples = _resampled(waveform, sample_rate)
    onsets = _onsets(samples)
    return level | {
        "chroma_clarity": _chroma_clarity(_chroma(samples)),
        "pitch_clarity": _pitch_clarity(samples),
        "onset_strength": float(onsets.mean()),
        "tempo_clarity": _tempo_clarity(onsets),
    }


def pair_measures(waveform: Float[Tensor, " t"], reference: Float[Tensor, " s"], sample_rate: int) -> dict[str, float]:
    """The measures of a clip against the one that it should sound like, over their common length, by name."""
    length = min(len(waveform), len(reference))
    pair = waveform[:length].float().cpu(), reference[:length].float().cpu()
    return {
        "chroma_correlation": chroma_correlation(*pair, sample_rate),
        "log_spectral_distance": log_spectral_distance(*pair),
    }


def level_dbfs(waveform: Float[Tensor, " t"]) -> float:
    """RMS in dB below full scale; -inf for silence. It hears level alone; no filter of the ear, no pauses left out."""
    power = waveform.double().square().mean().item()
    return 10 * math.log10(power) if power else -math.inf


def chroma_correlation(waveform: Float[Tensor, " t"], reference: Float[Tensor, " t"], sample_rate: int) -> float:
    """Correlation of both clips' constant-Q chroma, frame by frame over the twelve pitch classes: 1 for the same
    harmony and melody at the same time, about 0 for unrelated ones.

    It notices wrong, shifted and missing notes and lost timing; neither octave, timbre, noise nor level.
    """
    pair = (_resampled(one, sample_rate) for one in (waveform, reference))
    first, second = (chroma - chroma.mean(0) for chroma in map(_chroma, pair))
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum() / length) if length > 1e-12 else math.nan


def log_spectral_distance(waveform: Float[Tensor, " t"], reference: Float[Tensor, " t"]) -> float:
    """Mean over frames of the RMS over frequencies of the difference of both spectra, dB (Gray and Markel, 1976).

    What is 80 dB below the reference's loudest bin counts as that. It notices level, filters, noise and lost detail,
    most in frequencies that are nearly silent; not phase. A shift of a few milliseconds is noticed too.
    """
    first, second = (
        stft_magnitude(one[None].double(), SPECTRUM_FRAME, SPECTRUM_HOP)[0] for one in (waveform, reference)
    )
    floor = second.max() * 10 ** (-DYNAMIC_RANGE / 20)
    if floor == 0:
        return math.nan
    decibels = 20 * (first.clamp_min(floor) / second.clamp_min(floor)).log10()
    return decibels.square().mean(1).sqrt().mean().item()


def comb_excess(waveform: Float[Tensor, " t"], sample_rate: int, latent_rate: float) -> float:
    """How far the power at multiples of a decoder's latent rate (Hz) stands above its neighbours, dB.

    The mean over multiples of the level there, against the median level between them: about 0 for music, whose notes
    know nothing of that rate; above it for the hum of upsampling layers and of seams between frames. It hears nothing
    else, and a note that lies on a multiple is taken for hum: compare with real music.

    Raises:
        ValueError: a rate without a multiple below half the sample rate, or too low for the clip's length.
    """
    frame = round(COMB_RESOLUTION * sample_rate / latent_rate)
    if not 0 < latent_rate < sample_rate / 2 or frame > len(waveform):
        least = COMB_RESOLUTION / (len(waveform) / sample_rate)
        raise ValueError(f"latent_rate is {latent_rate:g} Hz; this clip allows {least:.3g} to {sample_rate / 2:g} Hz")
    # The frame is not a whole number of latent frames where the rates do not divide; so bins are looked up by Hz.
    hertz, power = signal.welch(waveform.double().cpu().numpy(), sample_rate, "hann", frame, detrend=False)
    if not power.any():
        return math.nan
    level = 10 * np.log10(power + power.max() * 1e-12)
    step = hertz[1]
    teeth = np.round(np.arange(latent_rate, hertz[-1], latent_rate) / step).astype(int)
    excess = []
    for tooth in teeth:
        # Half a comb's distance to each side, without the three bins that a tone on the tooth fills.
        around = np.arange(max(1, tooth - COMB_RESOLUTION // 2), min(len(level), tooth + COMB_RESOLUTION // 2))
        excess.append(level[tooth] - np.median(level[around[np.abs(around - tooth) > 2]]))
    return float(np.mean(excess))


def middle_half(measures: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The quartiles of every measure over clips of real music: half of it lies between.

    Clips where a measure is not finite are left out; a measure with fewer than four clips is too.
    """
    found = {}
    for name in dict.fromkeys(name for one in measures for name in one):
        values = [one[name] for one in measures if name in one and math.isfinite(one[name])]
        if len(values) >= 4:
            low, high = np.quantile(values, (0.25, 0.75))
            found[name] = (float(low), float(high))
    return found


def _resampled(waveform: Float[Tensor, " t"], sample_rate: int) -> Float[Tensor, " s"]:
    return resample(waveform[None, None].float().cpu(), sample_rate, SAMPLE_RATE)[0, 0]


def _chroma(samples: Float[Tensor, " t"]) -> Float[np.ndarray, "12 l"]:
    """Constant-Q energy by pitch class, at standard tuning, frames not normalized: silent ones count for little."""
    return librosa.feature.chroma_cqt(
        y=samples.numpy(), sr=SAMPLE_RATE, hop_length=HOP_LENGTH, norm=None, tuning=0.0
    ).astype(np.float64)


def _chroma_clarity(chroma: Float[np.ndarray, "12 l"]) -> float:
    """1 - the entropy of pitch classes over that of equal ones, the mean over frames weighted by their energy.

    High for few notes at a time; low for noise, drums, clusters and notes out of tune.
    """
    energy = chroma.sum(0)
    if not energy.any():
        return math.nan
    shares = chroma / np.maximum(energy, 1e-12)
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(0) / math.log(12)
    return float(((1 - entropy) * energy).sum() / energy.sum())


def _pitch_clarity(samples: Float[Tensor, " t"]) -> float:
    """The highest normalized autocorrelation at lags of 55 to 1760 Hz (McLeod and Wyvill, 2005), weighted by energy.

    Near 1 for what repeats itself, one pitch or a clean chord on a low root; low for noise. It does not know
    which pitch.
    """
    if len(samples) < PITCH_FRAME:
        return math.nan
    frames = samples.double().unfold(0, PITCH_FRAME, HOP_LENGTH)
    spectrum = torch.fft.rfft(frames, 2 * PITCH_FRAME)
    correlation = torch.fft.irfft(spectrum.abs().square())[:, :PITCH_FRAME]
    squares = frames.square().cumsum(1)
    total = squares[:, -1:]
    # Of both parts that a lag lays on each other: all without the last, and all without the first `lag` samples.
    before = torch.cat([total, squares.flip(1)[:, 1:]], 1)
    after = torch.cat([total, total - squares[:, :-1]], 1)
    clarity = 2 * correlation / (before + after).clamp_min(1e-12)
    low, high = (SAMPLE_RATE / hertz for hertz in reversed(PITCH_RANGE))
    # The slope from lag 0 is no period: it ends where the correlation first falls below 0.
    beyond = (clarity < 0).cummax(1).values
    best = torch.where(beyond, clarity, 0.0)[:, math.ceil(low) : math.floor(high) + 1].amax(1)
    weight = total[:, 0]
    return float((best * weight).sum() / weight.sum()) if weight.any() else math.nan


def _onsets(samples: Float[Tensor, " t"]) -> Float[np.ndarray, " l"]:
    """librosa's onset strength (spectral flux of log-mels): its mean is high for dense, hard attacks, low for pads."""
    return librosa.onset.onset_strength(y=samples.numpy(), sr=SAMPLE_RATE, hop_length=HOP_LENGTH)


def _tempo_clarity(onsets: Float[np.ndarray, " l"]) -> float:
    """The highest normalized autocorrelation of the onset strength at periods of 40 to 240 BPM.

    Near 1 for a strict beat, near 0 for none; a slow regular swell counts as one too. It needs two periods.
    """
    rate = SAMPLE_RATE / HOP_LENGTH
    centred = onsets - onsets.mean()
    low, high = (round(rate * 60 / bpm) for bpm in reversed(TEMPO_RANGE))
    high = min(high, len(centred) // 2)
    power = float((centred**2).sum())
    if high <= low or power < 1e-12:
        return math.nan
    found = [0.0]
    for lag in range(low, high + 1):
        first, second = centred[lag:] - centred[lag:].mean(), centred[:-lag] - centred[:-lag].mean()
        length = np.linalg.norm(first) * np.linalg.norm(second)
        found.append(float(first @ second / length) if length > 1e-12 else 0.0)
    return max(found)
