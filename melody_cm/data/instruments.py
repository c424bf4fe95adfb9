"""The sounds of procedural music: instruments made of sines, drums made of sines and noise, as tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """A timbre."""

    harmonics: tuple[float, ...] = (1.0,)  # Amplitudes of partials 1, 2, 3, ...
    attack: float = 0.004  # Seconds of rise.
    release: float = 0.08  # Seconds of fall.
    decay: float = 0.0  # Seconds in which a note falls to 1/e; 0 for instruments that sustain.
    damping: float = 0.0  # How much faster each next partial decays.
    vibrato: float = 0.0  # Depth as a part of the frequency, at 5.3 Hz.
    breath: float = 0.0  # Level of noise that follows the note.
    detune: float = 0.0  # Frequency ratio of a second voice, 0 for none.
    fm: tuple[float, float] = (
        0.0,
        0.0,
    )  # Ratio and index of a modulator instead, which decays with the note.
    gain: float = 1.0  # Level in the mix.


def _saw(count: int, slope: float = 1.0) -> tuple[float, ...]:
    return tuple(k**-slope for k in range(1, count + 1))


def _square(count: int) -> tuple[float, ...]:
    return tuple(1 / k if k % 2 else 0.0 for k in range(1, count + 1))


INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument(_saw(8, 1.4), decay=0.8, damping=0.3, release=0.12),
    "electric piano": Instrument(fm=(1.0, 1.3), decay=1.1, release=0.15, gain=0.9),
    "nylon-string guitar": Instrument((1.0, 0.7, 0.5, 0.35, 0.3, 0.15, 0.12, 0.08), decay=0.4, damping=0.5, gain=1.1),
    "organ": Instrument((1.0, 0.8, 0.6, 0.5, 0.0, 0.35, 0.0, 0.4), attack=0.012, vibrato=0.002, release=0.05, gain=0.7),
    "flute": Instrument((1.0, 0.22, 0.1, 0.03), attack=0.06, vibrato=0.006, breath=0.08, release=0.1, gain=0.6),
    "strings": Instrument(_saw(8, 1.3), attack=0.16, release=0.3, detune=1.006, vibrato=0.003, gain=0.8),
    "violin": Instrument((0.8, 1.0, 0.7, 0.6, 0.4, 0.35, 0.2, 0.15, 0.1), attack=0.07, vibrato=0.008, gain=0.6),
    "trumpet": Instrument((0.6, 1.0, 0.95, 0.8, 0.6, 0.45, 0.3, 0.2, 0.12), attack=0.035, vibrato=0.003, gain=0.5),
    "horns": Instrument((1.0, 0.8, 0.5, 0.25, 0.12, 0.06), attack=0.06, release=0.15, detune=1.003, gain=0.75),
    "square lead": Instrument(_square(15), attack=0.003, release=0.02, gain=0.55),
    "saw synth": Instrument(_saw(14), attack=0.004, release=0.05, decay=0.6, damping=0.25, detune=1.008, gain=0.7),
    "synth pad": Instrument(_saw(5, 1.6), attack=0.35, release=0.5, detune=1.009, gain=0.8),
    "bells": Instrument(fm=(3.51, 1.8), decay=1.0, release=0.4, gain=0.8),
    "marimba": Instrument(
        (1.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.12), attack=0.002, decay=0.16, damping=0.2, gain=1.3
    ),
    "accordion": Instrument((1.0, 0.9, 0.7, 0.55, 0.4, 0.3, 0.2), attack=0.04, detune=1.011, release=0.06, gain=0.5),
    "upright bass": Instrument((1.0, 0.6, 0.35, 0.15, 0.06), attack=0.006, decay=0.5, damping=0.4, gain=0.9),
    "synth bass": Instrument(_saw(12), attack=0.003, decay=0.3, damping=0.5, release=0.03, gain=0.9),
    "sub bass": Instrument((1.0, 0.12), attack=0.03, release=0.12, gain=0.75),
    "tuba": Instrument((1.0, 0.75, 0.5, 0.25, 0.1), attack=0.03, release=0.06, gain=0.65),
    "triangle bass": Instrument(
        (1.0, 0.0, -1 / 9, 0.0, 1.0 / 25.0, 0.0, -1.0 / 49.0), attack=0.003, release=0.02, gain=0.65
    ),
}


@dataclass(frozen=True)
class Drum:
    """A stroke."""

    seconds: float
    sweep: tuple[int, int]  # The tone's first and last pitch in Hz.
    tone: float  # Its level.
    noise: float  # The level of noise.
    band: tuple[int, int]  # Of the noise, in Hz.


DRUMS: dict[str, dict[str, Drum]] = {
    "acoustic": {
        "kick": Drum(0.22, (130, 52), 1.0, 0.06, (500, 3000)),
        "snare": Drum(0.18, (220, 170), 0.35, 0.5, (1000, 7000)),
        "hat": Drum(0.05, (0, 0), 0.0, 0.28, (6000, 11000)),
        "ride": Drum(0.35, (0, 0), 0.0, 0.16, (5000, 9500)),
    },
    "electronic": {
        "kick": Drum(0.32, (180, 44), 0.8, 0.0, (500, 3000)),
        "snare": Drum(0.14, (0, 0), 0.0, 0.7, (900, 4500)),
        "hat": Drum(0.04, (0, 0), 0.0, 0.3, (7000, 11500)),
        "ride": Drum(0.16, (0, 0), 0.0, 0.22, (7000, 11500)),
    },
    "chip": {
        "kick": Drum(0.1, (240, 60), 0.9, 0.0, (500, 3000)),
        "snare": Drum(0.09, (0, 0), 0.0, 0.55, (600, 9000)),
        "hat": Drum(0.025, (0, 0), 0.0, 0.3, (3000, 11500)),
        "ride": Drum(0.05, (0, 0), 0.0, 0.25, (3000, 11500)),
    },
}
