"""What procedural music is made of, as tables: styles, moods, scales, chord progressions, instruments and drums.

A pattern is one bar, one character a step of a sixteenth note: "." rests, "x" plays, "o" plays softly; in bass patterns
a digit names the chord's note: 1 root, 3 third, 5 fifth, 8 octave. Where a style swings, off-beat eighths come late.
"""

from dataclasses import dataclass, field

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
KEYS = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
# Scale degrees of four bars' chords, counted from 0.
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4), (0, 3, 4, 3), (0, 5, 1, 4))


@dataclass(frozen=True)
class Mood:
    """How a mood sounds."""

    modes: tuple[str, ...]
    tempo: tuple[float, float]  # Which part [0, 1] of a style's tempo range.
    shift: int  # Of the melody, in semitones.
    brightness: int  # In Hz.
    reverb: float  # More than the style's.
    velocity: float  # How hard notes are struck.


MOODS: dict[str, Mood] = {
    "happy": Mood(("major", "mixolydian"), (0.5, 0.9), 0, 7000, 0.0, 0.85),
    "energetic": Mood(("major", "minor", "mixolydian"), (0.75, 1.0), 0, 11000, 0.0, 1.0),
    "calm": Mood(("major", "lydian"), (0.0, 0.3), 0, 3000, 0.1, 0.6),
    "sad": Mood(("minor", "dorian"), (0.0, 0.35), -3, 2500, 0.15, 0.65),
    "dark": Mood(("phrygian", "minor"), (0.2, 0.7), -12, 1600, 0.1, 0.85),
    "dreamy": Mood(("lydian", "major"), (0.1, 0.5), 12, 4000, 0.35, 0.6),
}


@dataclass(frozen=True)
class Style:
    """A style's rules."""

    tempo: tuple[int, int]  # Slowest and fastest, in beats per minute.
    moods: tuple[str, ...]  # Which moods fit.
    leads: tuple[str, ...]  # Instruments that may play the melody, the chords, the bass.
    chords: tuple[str, ...]
    basses: tuple[str, ...]
    chord_pattern: str  # When chords sound, and for how many steps.
    chord_hold: float
    bass_pattern: str
    bass_hold: float
    melodies: tuple[str, ...]  # Rhythms of a bar of melody.
    drum_phrase: str = "without drums"  # For the caption.
    drum_kit: str = ""
    drums: dict[str, str] = field(default_factory=dict)  # The pattern of each drum.
    beats: int = 4  # A bar; a beat has four steps.
    reverb: float = 0.12  # In [0, 1].
    swing: float = 0.0  # Delay of every off-beat eighth as a part of a beat.
    arpeggio: bool = False  # Chords one note at a time.
    sevenths: bool = False  # Four-note chords.


# fmt: off
STYLES: dict[str, Style] = {
    "ambient": Style(
        (60, 84), ("calm", "sad", "dark", "dreamy"),
        ("flute", "bells", "electric piano"), ("synth pad", "strings"), ("sub bass",),
        "x...............", 16.0, "1...............", 15.0,
        ("x.......x.......", "x...x.......x...", "....x.......x..."),
        reverb=0.45,
    ),
    "folk": Style(
        (84, 132), ("happy", "calm", "sad", "dreamy"),
        ("violin", "flute", "accordion"), ("nylon-string guitar",), ("upright bass",),
        "x.x.x.x.x.x.x.x.", 3.0, "1.......5.......", 6.0,
        ("x...x.x.x...x...", "x.x.x.x.x.....x.", "x...x...x.x.x..."),
        arpeggio=True,
    ),
    "jazz": Style(
        (96, 160), ("happy", "energetic", "calm", "sad"),
        ("trumpet", "electric piano", "flute"), ("piano",), ("upright bass",),
        "......x.......x.", 2.5, "1...3...5...3...", 4.0,
        ("x.x.x.x...x.x...", "..x.x.x.x.......", "x...x.x...x.x.x."),
        "a swinging ride cymbal", "acoustic",
        {"ride": "x...x.o.x...x.o.", "hat": "....x.......x...", "kick": "o.......o......."},
        swing=0.16, sevenths=True,
    ),
    "techno": Style(
        (118, 150), ("energetic", "dark", "happy"),
        ("saw synth", "bells"), ("saw synth", "synth pad"), ("synth bass",),
        "x..x..x...x..x..", 1.5, "..1...1...1...1.", 1.8,
        ("x..x..x.x..x..x.", "x.xx..x.x.xx..x.", "x...x...x..x..x."),
        "a four-on-the-floor beat", "electronic",
        {"kick": "x...x...x...x...", "hat": "..x...x...x...x.", "snare": "....x.......x..."},
        reverb=0.15,
    ),
    "waltz": Style(
        (88, 150), ("happy", "calm", "sad", "dreamy"),
        ("accordion", "violin", "piano"), ("strings", "piano"), ("upright bass", "tuba"),
        "....x...x...", 2.5, "1...........", 4.0,
        ("x.......x...", "x...x...x...", "x...x.x.x...", "x..........."),
        beats=3, reverb=0.22,
    ),
    "march": Style(
        (96, 126), ("happy", "energetic", "dark"),
        ("trumpet", "flute"), ("horns",), ("tuba",),
        "....x.......x...", 2.0, "1.......5.......", 4.0,
        ("x...x..xx...x...", "x.......x..xx...", "x..xx...x...x..."),
        "a marching snare drum", "acoustic",
        {"kick": "x.......x.......", "snare": "x..ox.ooo..ox.oo"},
        reverb=0.2,
    ),
    "chiptune": Style(
        (120, 160), ("happy", "energetic", "dark"),
        ("square lead",), ("square lead",), ("triangle bass",),
        "xxxxxxxxxxxxxxxx", 0.9, "1.1.8.1.1.1.8.1.", 1.7,
        ("x.x.x..xx.x.x...", "x..x..x.x.x.x.x.", "x...x.x.x..x..x."),
        "8-bit noise drums", "chip",
        {"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        reverb=0.0, arpeggio=True,
    ),
    "reggae": Style(
        (66, 92), ("happy", "calm", "sad"),
        ("organ", "trumpet", "electric piano"), ("nylon-string guitar", "organ"), ("sub bass",),
        "....x.......x...", 1.2, "1..1..3.....5...", 2.6,
        ("x...x.x.....x...", "..x.x...x.x.....", "x.....x.x...x..."),
        "a one-drop drum beat", "acoustic",
        {"kick": "........x.......", "snare": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        reverb=0.18,
    ),
    "minimalist": Style(
        (108, 156), ("happy", "calm", "dreamy", "energetic"),
        ("marimba", "piano"), ("marimba", "bells"), ("sub bass", "upright bass"),
        "x.xx.x.xx.x.x.xx", 1.5, "1...............", 12.0,
        ("x.xx.xx.x.xx.xx.", "x.x.xx.x.x.x.xx.", "xx.x.xx.xx.x.xx."),
        reverb=0.2, arpeggio=True,
    ),
}
# fmt: on


@dataclass(frozen=True)
class Instrument:
    """A timbre, made of sines."""

    harmonics: tuple[float, ...] = (1.0,)  # Amplitudes of partials 1, 2, 3, ...
    attack: float = 0.004  # Seconds of rise.
    release: float = 0.08  # Seconds of fall.
    decay: float = 0.0  # Seconds in which a note falls to 1/e; 0 for instruments that sustain.
    damping: float = 0.0  # How much faster each next partial decays.
    vibrato: float = 0.0  # Depth as a part of the frequency, at 5.3 Hz.
    breath: float = 0.0  # Level of noise that follows the note.
    detune: float = 0.0  # Frequency ratio of a second voice, 0 for none.
    fm: tuple[float, float] = (0.0, 0.0)  # Ratio and index of a modulator instead, which decays with the note.
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
    """A stroke, made of sines and noise."""

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
