"""From a performance to sound: notes and strokes, softened, put into one room and brought to one level."""

import functools
from dataclasses import dataclass, field

import numpy as np
import scipy  # Which imports scipy.signal when that is first used: over half a second.

from melody_cm.data.styles import DRUMS, INSTRUMENTS, Instrument

TWO_PI = 2 * np.pi
RMS = 0.1
PEAK = 0.95


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
class Performance:
    """All that is heard: notes, strokes on `kit`, brightness (Hz above which tones are soft), reverb in [0, 1]."""

    notes: list[Note] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    kit: str = "acoustic"
    brightness: int = 8000
    reverb: float = 0.15


def synthesize(performance: Performance, seconds: float, sample_rate: int) -> np.ndarray:
    """The performance's first `seconds` as (t,) fp32: RMS 0.1 unless that would pass the peak of 0.95."""
    length = round(seconds * sample_rate)
    tones, drums = np.zeros(length, np.float32), np.zeros(length, np.float32)
    cache: dict[tuple[str, int, float], np.ndarray] = {}
    for note in performance.notes:
        key = (note.instrument, note.pitch, round(note.seconds, 4))
        if key not in cache:
            cache[key] = note_sound(INSTRUMENTS[note.instrument], note.pitch, note.seconds, sample_rate)
        _add(tones, cache[key], note.start, note.velocity, sample_rate)
    for hit in performance.hits:
        _add(drums, drum_sound(performance.kit, hit.drum, sample_rate), hit.start, hit.velocity, sample_rate)
    return _master(_soften(tones, performance.brightness, sample_rate), drums, performance.reverb, sample_rate)


def note_sound(instrument: Instrument, pitch: int, seconds: float, sample_rate: int) -> np.ndarray:
    """One note at full velocity, with its release, as (t,) fp32."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    time = np.arange(round((seconds + instrument.release) * sample_rate)) / sample_rate
    sound = _voice(instrument, frequency, time, sample_rate)
    if instrument.detune:
        sound = 0.6 * (sound + _voice(instrument, frequency * instrument.detune, time, sample_rate))
    if instrument.breath:
        sound += instrument.breath * _noise(sample_rate, (500, 6000))[np.arange(len(time)) % (4 * sample_rate)]
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
    stroke = DRUMS[kit][drum]
    time = np.arange(round(stroke.seconds * sample_rate)) / sample_rate
    high, low = stroke.sweep
    pitch = low + (high - low) * np.exp(-time / 0.035)
    body = np.sin(TWO_PI * np.cumsum(pitch) / sample_rate) * np.exp(-time / (0.4 * stroke.seconds))
    rattle = _noise(sample_rate, stroke.band)[: len(time)] * np.exp(-time / (0.25 * stroke.seconds))
    ends = np.minimum(1, np.minimum(time / 0.001, (stroke.seconds - time) / 0.01))
    return ((stroke.tone * body + stroke.noise * rattle) * ends * 0.5).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _noise(sample_rate: int, band: tuple[int, int]) -> np.ndarray:
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
    echo = _noise(sample_rate, (150, 5000))[: len(time)] * np.exp(-time / 0.22) * np.minimum(time / 0.012, 1)
    return (echo / np.sqrt(np.square(echo).sum())).astype(np.float32)


def _add(track: np.ndarray, sound: np.ndarray, start: float, velocity: float, sample_rate: int) -> None:
    first = round(start * sample_rate)
    part = sound[: max(0, len(track) - first)]
    track[first : first + len(part)] += np.float32(velocity) * part


def _soften(track: np.ndarray, brightness: int, sample_rate: int) -> np.ndarray:
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
