"""What procedural music is made of: styles, moods, scales and chord progressions, as tables.

A pattern is one bar, one character a step of a sixteenth note (of a swung eighth's half where a style swings): "." rests,
"x" plays, "o" plays softly; in bass patterns a digit names the chord's note (1 root, 3 third, 5 fifth, 8 octave).
"""

from dataclasses import dataclass

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
    """How a mood sounds: its modes, the part [0, 1] of a style's tempo range, a shift of the melody in semitones, the
    brightness in Hz, more reverb, and how hard notes are struck."""

    modes: tuple[str, ...]
    tempo: tuple[float, float]
    shift: int
    brightness: float
    reverb: float
    velocity: float


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
    """A style's rules.

    Attributes:
        tempo: slowest and fastest, in beats per minute.
        beats: beats a bar; a beat has four steps.
        leads, chords, basses: instruments that may play the part.
        chord_pattern, chord_hold: when chords sound and for how many steps.
        arpeggio: chords one note at a time.
        bass_pattern, bass_hold: likewise for the bass.
        melodies: rhythms of a bar of melody.
        kits: drum kit and phrase for the caption; "" for none.
        drums: drum -> pattern.
        swing: delay of every off-beat eighth as a part of a beat.
        reverb: in [0, 1].
        sevenths: four-note chords.
        moods: which moods fit.
    """

    tempo: tuple[int, int]
    beats: int
    leads: tuple[str, ...]
    chords: tuple[str, ...]
    basses: tuple[str, ...]
    chord_pattern: str
    chord_hold: float
    bass_pattern: str
    bass_hold: float
    melodies: tuple[str, ...]
    drum_kit: str
    drum_phrase: str
    drums: dict[str, str]
    moods: tuple[str, ...]
    arpeggio: bool = False
    swing: float = 0.0
    reverb: float = 0.12
    sevenths: bool = False


STYLES: dict[str, Style] = {
    "ambient": Style(
        (60, 84), 4, ("flute", "bells", "electric piano"), ("synth pad", "strings"), ("sub bass",),
        "x...............", 16, "1...............", 15, ("x.......x.......", "x...x.......x...", "....x.......x..."),
        "", "without drums", {}, ("calm", "sad", "dark", "dreamy"), reverb=0.45,
    ),
    "folk": Style(
        (84, 132), 4, ("violin", "flute", "accordion"), ("nylon-string guitar",), ("upright bass",),
        "x.x.x.x.x.x.x.x.", 3, "1.......5.......", 6, ("x...x.x.x...x...", "x.x.x.x.x.....x.", "x...x...x.x.x..."),
        "", "without drums", {}, ("happy", "calm", "sad", "dreamy"), arpeggio=True,
    ),
    "jazz": Style(
        (96, 160), 4, ("trumpet", "electric piano", "flute"), ("piano",), ("upright bass",),
        "......x.......x.", 2.5, "1...3...5...3...", 4, ("x.x.x.x...x.x...", "..x.x.x.x.......", "x...x.x...x.x.x."),
        "acoustic", "a swinging ride cymbal", {"ride": "x...x.o.x...x.o.", "hat": "....x.......x...", "kick": "o.......o......."},
        ("happy", "energetic", "calm", "sad"), swing=0.16, sevenths=True,
    ),
    "techno": Style(
        (118, 150), 4, ("saw synth", "bells"), ("saw synth", "synth pad"), ("synth bass",),
        "x..x..x...x..x..", 1.5, "..1...1...1...1.", 1.8, ("x..x..x.x..x..x.", "x.xx..x.x.xx..x.", "x...x...x..x..x."),
        "electronic", "a four-on-the-floor beat",
        {"kick": "x...x...x...x...", "hat": "..x...x...x...x.", "snare": "....x.......x..."},
        ("energetic", "dark", "happy"), reverb=0.15,
    ),
    "waltz": Style(
        (88, 150), 3, ("accordion", "violin", "piano"), ("strings", "piano"), ("upright bass", "tuba"),
        "....x...x...", 2.5, "1...........", 4, ("x.......x...", "x...x...x...", "x...x.x.x...", "x..........."),
        "", "without drums", {}, ("happy", "calm", "sad", "dreamy"), reverb=0.22,
    ),
    "march": Style(
        (96, 126), 4, ("trumpet", "flute"), ("horns",), ("tuba",),
        "....x.......x...", 2, "1.......5.......", 4, ("x...x..xx...x...", "x.......x..xx...", "x..xx...x...x..."),
        "acoustic", "a marching snare drum",
        {"kick": "x.......x.......", "snare": "x..ox.ooo..ox.oo"},
        ("happy", "energetic", "dark"), reverb=0.2,
    ),
    "chiptune": Style(
        (120, 160), 4, ("square lead",), ("square lead",), ("triangle bass",),
        "xxxxxxxxxxxxxxxx", 0.9, "1.1.8.1.1.1.8.1.", 1.7, ("x.x.x..xx.x.x...", "x..x..x.x.x.x.x.", "x...x.x.x..x..x."),
        "chip", "8-bit noise drums", {"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        ("happy", "energetic", "dark"), arpeggio=True, reverb=0.0,
    ),
    "reggae": Style(
        (66, 92), 4, ("organ", "trumpet", "electric piano"), ("nylon-string guitar", "organ"), ("sub bass",),
        "....x.......x...", 1.2, "1..1..3.....5...", 2.6, ("x...x.x.....x...", "..x.x...x.x.....", "x.....x.x...x..."),
        "acoustic", "a one-drop drum beat",
        {"kick": "........x.......", "snare": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        ("happy", "calm", "sad"), reverb=0.18,
    ),
    "minimalism": Style(
        (108, 156), 4, ("marimba", "piano"), ("marimba", "bells"), ("sub bass", "upright bass"),
        "x.xx.x.xx.x.x.xx", 1.5, "1...............", 12, ("x.xx.xx.x.xx.xx.", "x.x.xx.x.x.x.xx.", "xx.x.xx.xx.x.xx."),
        "", "without drums", {}, ("happy", "calm", "dreamy", "energetic"), arpeggio=True, reverb=0.2,
    ),
}
