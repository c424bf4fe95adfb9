"""What procedural music is made of: styles, moods, scales and chord progressions, as tables.

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
