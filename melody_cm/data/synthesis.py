"""Sound of procedural music: instruments made of sines, drums made of sines and noise, one room."""

import functools
from dataclasses import dataclass, field

import numpy as np
import scipy.signal

TWO_PI = 2 * np.pi
RMS = 0.1
PEAK = 0.95


@dataclass(frozen=True)
class Instrument:
    """A timbre.

    Attributes:
        harmonics: amplitudes of partials 1, 2, 3, ...
        attack, release: seconds of rise and fall.
        decay: seconds in which a note falls to 1/e; 0 for instruments that sustain.
        damping: how much faster each next partial decays.
        vibrato: depth as a part of the frequency, at 5.3 Hz.
        breath: level of noise that follows the note.
        detune: frequency ratio of a second voice, 0 for none.
        fm: (ratio, index) of a modulator that decays with the note, instead of harmonics; (0, 0) for none.
        gain: level in the mix.
    """

    harmonics: tuple[float, ...] = (1.0,)
    attack: float = 0.004
    release: float = 0.08
    decay: float = 0.0
    damping: float = 0.0
    vibrato: float = 0.0
    breath: float = 0.0
    detune: float = 0.0
    fm: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0


def _saw(count: int, slope: float = 1.0) -> tuple[float, ...]:
    return tuple(k**-slope for k in range(1, count + 1))


def _square(count: int) -> tuple[float, ...]:
    return tuple(1 / k if k % 2 else 0.0 for k in range(1, count + 1))


INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument(_saw(8, 1.4), decay=0.8, damping=0.3, release=0.12),
    "electric piano": Instrument(fm=(1.0, 1.3), decay=1.1, release=0.15, gain=0.9),
    "nylon-string guitar": Instrument((1, 0.7, 0.5, 0.35, 0.3, 0.15, 0.12, 0.08), decay=0.4, damping=0.5, gain=1.1),
    "organ": Instrument((1, 0.8, 0.6, 0.5, 0, 0.35, 0, 0.4), attack=0.012, vibrato=0.002, release=0.05, gain=0.55),
    "flute": Instrument((1, 0.22, 0.1, 0.03), attack=0.06, vibrato=0.006, breath=0.08, release=0.1),
    "strings": Instrument(_saw(8, 1.3), attack=0.16, release=0.3, detune=1.006, vibrato=0.003, gain=0.5),
    "violin": Instrument((0.8, 1, 0.7, 0.6, 0.4, 0.35, 0.2, 0.15, 0.1), attack=0.07, vibrato=0.008, gain=0.5),
    "trumpet": Instrument((0.6, 1, 0.95, 0.8, 0.6, 0.45, 0.3, 0.2, 0.12), attack=0.035, vibrato=0.003, gain=0.42),
    "horns": Instrument((1, 0.8, 0.5, 0.25, 0.12, 0.06), attack=0.06, release=0.15, detune=1.003, gain=0.5),
    "square lead": Instrument(_square(15), attack=0.003, release=0.02, gain=0.55),
    "saw synth": Instrument(_saw(14), attack=0.004, release=0.05, decay=0.6, damping=0.25, detune=1.008, gain=0.55),
    "synth pad": Instrument(_saw(5, 1.6), attack=0.35, release=0.5, detune=1.009, gain=0.55),
    "bells": Instrument(fm=(3.51, 1.8), decay=1.0, release=0.4, gain=0.8),
    "marimba": Instrument((1, 0, 0, 0.4, 0, 0, 0, 0, 0, 0.12), attack=0.002, decay=0.16, damping=0.2, gain=1.3),
    "accordion": Instrument((1, 0.9, 0.7, 0.55, 0.4, 0.3, 0.2), attack=0.04, detune=1.011, release=0.06, gain=0.4),
    "upright bass": Instrument((1, 0.6, 0.35, 0.15, 0.06), attack=0.006, decay=0.5, damping=0.4, gain=1.5),
    "synth bass": Instrument(_saw(12), attack=0.003, decay=0.3, damping=0.5, release=0.03, gain=1.3),
    "sub bass": Instrument((1, 0.12), attack=0.03, release=0.12, gain=1.3),
    "tuba": Instrument((1, 0.75, 0.5, 0.25, 0.1), attack=0.03, release=0.06, gain=0.9),
    "triangle bass": Instrument((1, 0, -1 / 9, 0, 1 / 25, 0, -1 / 49), attack=0.003, release=0.02, gain=1.2),
}

# Each drum: (seconds, start Hz, end Hz, level of the tone, level of the noise, noise band in Hz).
DRUMS: dict[str, dict[str, tuple[float, float, float, float, float, tuple[float, float]]]] = {
    "acoustic": {
        "kick": (0.22, 130, 52, 1.0, 0.06, (500, 3000)),
        "snare": (0.18, 220, 170, 0.35, 0.5, (1000, 7000)),
        "hat": (0.05, 0, 0, 0.0, 0.28, (6000, 11000)),
        "ride": (0.35, 0, 0, 0.0, 0.16, (5000, 9500)),
    },
    "electronic": {
        "kick": (0.32, 180, 44, 1.2, 0.0, (500, 3000)),
        "snare": (0.14, 0, 0, 0.0, 0.7, (900, 4500)),
        "hat": (0.04, 0, 0, 0.0, 0.3, (7000, 11500)),
        "ride": (0.16, 0, 0, 0.0, 0.22, (7000, 11500)),
    },
    "chip": {
        "kick": (0.1, 240, 60, 0.9, 0.0, (500, 3000)),
        "snare": (0.09, 0, 0, 0.0, 0.55, (600, 9000)),
        "hat": (0.025, 0, 0, 0.0, 0.3, (3000, 11500)),
        "ride": (0.05, 0, 0, 0.0, 0.25, (3000, 11500)),
    },
}


@dataclass(frozen=True)
class Note:
    """A note: name of an instrument, MIDI pitch, start and length in seconds, velocity in (0, 1]."""

    instrument: str
    pitch: int
    start: float
    seconds: float
    velocity: float


@dataclass(frozen=True)
class Hit:
    """A stroke on a drum of the kit: start in seconds, velocity in (0, 1]."""

    drum: str
    start: float
    velocity: float


@dataclass
class Score:
    """Everything to be heard: notes, strokes on `kit`, brightness (Hz above which the tone is soft), reverb in [0, 1]."""

    notes: list[Note] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    kit: str = "acoustic"
    brightness: float = 8000.0
    reverb: float = 0.15


def render(score: Score, seconds: float, sample_rate: int) -> np.ndarray:
    """The score's first `seconds` as (t,) fp32: RMS 0.1 unless that would pass the peak of 0.95."""
    length = round(seconds * sample_rate)
    tones, drums = np.zeros(length, np.float32), np.zeros(length, np.float32)
    cache: dict[tuple[str, int, float], np.ndarray] = {}
    for note in score.notes:
        key = (note.instrument, note.pitch, round(note.seconds, 4))
        if key not in cache:
            cache[key] = note_sound(INSTRUMENTS[note.instrument], note.pitch, note.seconds, sample_rate)
        _add(tones, cache[key], note.start, note.velocity, sample_rate)
    for hit in score.hits:
        _add(drums, drum_sound(score.kit, hit.drum, sample_rate), hit.start, hit.velocity, sample_rate)
    return _master(_soften(tones, score.brightness, sample_rate), drums, score.reverb, sample_rate)


def note_sound(instrument: Instrument, pitch: int, seconds: float, sample_rate: int) -> np.ndarray:
    """One note at full velocity, with its release, as (t,) fp32."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    time = np.arange(round((seconds + instrument.release) * sample_rate)) / sample_rate
    sound = _voice(instrument, frequency, time, sample_rate)
    if instrument.detune:
        sound = 0.6 * (sound + _voice(instrument, frequency * instrument.detune, time, sample_rate))
    if instrument.breath:
        sound += instrument.breath * _noise(sample_rate, (500.0, 6000.0))[np.arange(len(time)) % (4 * sample_rate)]
    return sound * _envelope(instrument, seconds, time) * np.float32(instrument.gain * 0.25)


def _voice(instrument: Instrument, frequency: float, time: np.ndarray, sample_rate: int) -> np.ndarray:
    phase = TWO_PI * frequency * time
    if instrument.vibrato:
        # Vibrato sets in with the note's life, as players do it; rate 5.3 Hz.
        depth = instrument.vibrato * frequency / 5.3
        phase -= depth * np.minimum(time / 0.3, 1) * np.cos(TWO_PI * 5.3 * time)
    phase = np.mod(phase, TWO_PI).astype(np.float32)
    if instrument.fm[1]:
        ratio, index = instrument.fm
        modulator = np.mod(TWO_PI * ratio * frequency * time, TWO_PI).astype(np.float32)
        fade = np.exp(-2.0 / instrument.decay * time, dtype=np.float32)
        return np.sin(phase + index * min(1.0, 900 / frequency) * fade * np.sin(modulator))
    return _partials(instrument, frequency, phase, time, sample_rate)


def _partials(
    instrument: Instrument, frequency: float, phase: np.ndarray, time: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Sum of partials by the recurrence sin(kx) = 2 cos(x) sin((k - 1) x) - sin((k - 2) x): one sine for all."""
    twice_cosine = 2 * np.cos(phase)
    before, current = np.zeros_like(phase), np.sin(phase)
    fade = np.ones_like(phase)
    faster = np.exp(-instrument.damping / (instrument.decay or 1.0) * time).astype(np.float32)
    audible = int(0.45 * sample_rate / frequency)
    total = np.zeros_like(phase)
    for amplitude in instrument.harmonics[: max(audible, 1)]:
        total += np.float32(amplitude) * (fade * current if instrument.damping else current)
        before, current = current, twice_cosine * current - before
        if instrument.damping:
            fade = fade * faster
    return total


def _envelope(instrument: Instrument, seconds: float, time: np.ndarray) -> np.ndarray:
    """Rise, decay and fall, all continuous and zero at both ends, so that no note clicks."""
    held = np.clip((seconds + instrument.release - time) / instrument.release, 0, 1)
    rise = np.clip(time / min(instrument.attack, seconds), 0, 1)
    decay = np.exp(-time / instrument.decay) if instrument.decay else 1.0
    return (rise * held**2 * decay).astype(np.float32)


@functools.lru_cache(maxsize=64)
def drum_sound(kit: str, drum: str, sample_rate: int) -> np.ndarray:
    """One stroke at full velocity as (t,) fp32."""
    seconds, high, low, tone, noise, band = DRUMS[kit][drum]
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sweep = low + (high - low) * np.exp(-time / 0.035)
    body = np.sin(TWO_PI * np.cumsum(sweep) / sample_rate) * np.exp(-time / (0.4 * seconds))
    rattle = _noise(sample_rate, band)[: len(time)] * np.exp(-time / (0.25 * seconds))
    ends = np.minimum(1, np.minimum(time / 0.001, (seconds - time) / 0.01))
    return ((tone * body + noise * rattle) * ends * 0.5).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _noise(sample_rate: int, band: tuple[float, float]) -> np.ndarray:
    """Four seconds of noise of unit variance in a band, always the same."""
    white = np.random.default_rng(0).standard_normal(4 * sample_rate)
    top = min(band[1], 0.45 * sample_rate)
    band_pass = scipy.signal.butter(2, (min(band[0], 0.5 * top), top), "bandpass", fs=sample_rate, output="sos")
    noise = scipy.signal.sosfilt(band_pass, white)
    return (noise / noise.std()).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _room(sample_rate: int) -> np.ndarray:
    """The echo of a room of 1.2 s: noise that decays and grows darker; unit energy."""
    time = np.arange(round(1.2 * sample_rate)) / sample_rate
    echo = _noise(sample_rate, (150.0, 5000.0))[: len(time)] * np.exp(-time / 0.22) * np.minimum(time / 0.012, 1)
    return (echo / np.sqrt(np.square(echo).sum())).astype(np.float32)


def _add(track: np.ndarray, sound: np.ndarray, start: float, velocity: float, sample_rate: int) -> None:
    first = round(start * sample_rate)
    part = sound[: max(0, len(track) - first)]
    track[first : first + len(part)] += np.float32(velocity) * part


def _soften(track: np.ndarray, brightness: float, sample_rate: int) -> np.ndarray:
    low_pass = scipy.signal.butter(1, min(brightness, 0.45 * sample_rate), fs=sample_rate, output="sos")
    return scipy.signal.sosfilt(low_pass, track)


def _master(tones: np.ndarray, drums: np.ndarray, reverb: float, sample_rate: int) -> np.ndarray:
    dry = tones + drums
    wet = scipy.signal.oaconvolve(tones + 0.3 * drums, _room(sample_rate))[: len(dry)]
    high_pass = scipy.signal.butter(2, 30.0, "highpass", fs=sample_rate, output="sos")
    mix = scipy.signal.sosfilt(high_pass, dry + reverb * wet)
    edge = np.minimum(1, np.arange(len(mix)) / (0.005 * sample_rate))
    mix *= edge * edge[::-1]
    rms, peak = np.sqrt(np.square(mix).mean()), np.abs(mix).max()
    return (mix * min(RMS / rms, PEAK / peak)).astype(np.float32)
