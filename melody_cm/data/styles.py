"""What procedural music is made of: styles, moods, scales and chord progressions, as tables.

A pattern is one bar, one character a step of a sixteenth note: "." rests, "x" plays, "o" plays softly; in bass patterns
a digit names the chord's note: 1 root, 3 third, 5 fifth, 8 octave. Where a style swings, off-beat eighths come late.
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
    brightness: int
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
        tempo=(60, 84),
        beats=4,
        leads=("flute", "bells", "electric piano"),
        chords=("synth pad", "strings"),
        basses=("sub bass",),
        chord_pattern="x...............",
        chord_hold=16.0,
        bass_pattern="1...............",
        bass_hold=15.0,
        melodies=("x.......x.......", "x...x.......x...", "....x.......x..."),
        drum_kit="",
        drum_phrase="without drums",
        drums={},
        moods=("calm", "sad", "dark", "dreamy"),
        reverb=0.45,
    ),
    "folk": Style(
        tempo=(84, 132),
        beats=4,
        leads=("violin", "flute", "accordion"),
        chords=("nylon-string guitar",),
        basses=("upright bass",),
        chord_pattern="x.x.x.x.x.x.x.x.",
        chord_hold=3.0,
        bass_pattern="1.......5.......",
        bass_hold=6.0,
        melodies=("x...x.x.x...x...", "x.x.x.x.x.....x.", "x...x...x.x.x..."),
        drum_kit="",
        drum_phrase="without drums",
        drums={},
        moods=("happy", "calm", "sad", "dreamy"),
        arpeggio=True,
    ),
    "jazz": Style(
        tempo=(96, 160),
        beats=4,
        leads=("trumpet", "electric piano", "flute"),
        chords=("piano",),
        basses=("upright bass",),
        chord_pattern="......x.......x.",
        chord_hold=2.5,
        bass_pattern="1...3...5...3...",
        bass_hold=4.0,
        melodies=("x.x.x.x...x.x...", "..x.x.x.x.......", "x...x.x...x.x.x."),
        drum_kit="acoustic",
        drum_phrase="a swinging ride cymbal",
        drums={"ride": "x...x.o.x...x.o.", "hat": "....x.......x...", "kick": "o.......o......."},
        moods=("happy", "energetic", "calm", "sad"),
        swing=0.16,
        sevenths=True,
    ),
    "techno": Style(
        tempo=(118, 150),
        beats=4,
        leads=("saw synth", "bells"),
        chords=("saw synth", "synth pad"),
        basses=("synth bass",),
        chord_pattern="x..x..x...x..x..",
        chord_hold=1.5,
        bass_pattern="..1...1...1...1.",
        bass_hold=1.8,
        melodies=("x..x..x.x..x..x.", "x.xx..x.x.xx..x.", "x...x...x..x..x."),
        drum_kit="electronic",
        drum_phrase="a four-on-the-floor beat",
        drums={"kick": "x...x...x...x...", "hat": "..x...x...x...x.", "snare": "....x.......x..."},
        moods=("energetic", "dark", "happy"),
        reverb=0.15,
    ),
    "waltz": Style(
        tempo=(88, 150),
        beats=3,
        leads=("accordion", "violin", "piano"),
        chords=("strings", "piano"),
        basses=("upright bass", "tuba"),
        chord_pattern="....x...x...",
        chord_hold=2.5,
        bass_pattern="1...........",
        bass_hold=4.0,
        melodies=("x.......x...", "x...x...x...", "x...x.x.x...", "x..........."),
        drum_kit="",
        drum_phrase="without drums",
        drums={},
        moods=("happy", "calm", "sad", "dreamy"),
        reverb=0.22,
    ),
    "march": Style(
        tempo=(96, 126),
        beats=4,
        leads=("trumpet", "flute"),
        chords=("horns",),
        basses=("tuba",),
        chord_pattern="....x.......x...",
        chord_hold=2.0,
        bass_pattern="1.......5.......",
        bass_hold=4.0,
        melodies=("x...x..xx...x...", "x.......x..xx...", "x..xx...x...x..."),
        drum_kit="acoustic",
        drum_phrase="a marching snare drum",
        drums={"kick": "x.......x.......", "snare": "x..ox.ooo..ox.oo"},
        moods=("happy", "energetic", "dark"),
        reverb=0.2,
    ),
    "chiptune": Style(
        tempo=(120, 160),
        beats=4,
        leads=("square lead",),
        chords=("square lead",),
        basses=("triangle bass",),
        chord_pattern="xxxxxxxxxxxxxxxx",
        chord_hold=0.9,
        bass_pattern="1.1.8.1.1.1.8.1.",
        bass_hold=1.7,
        melodies=("x.x.x..xx.x.x...", "x..x..x.x.x.x.x.", "x...x.x.x..x..x."),
        drum_kit="chip",
        drum_phrase="8-bit noise drums",
        drums={"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        moods=("happy", "energetic", "dark"),
        arpeggio=True,
        reverb=0.0,
    ),
    "reggae": Style(
        tempo=(66, 92),
        beats=4,
        leads=("organ", "trumpet", "electric piano"),
        chords=("nylon-string guitar", "organ"),
        basses=("sub bass",),
        chord_pattern="....x.......x...",
        chord_hold=1.2,
        bass_pattern="1..1..3.....5...",
        bass_hold=2.6,
        melodies=("x...x.x.....x...", "..x.x...x.x.....", "x.....x.x...x..."),
        drum_kit="acoustic",
        drum_phrase="a one-drop drum beat",
        drums={"kick": "........x.......", "snare": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        moods=("happy", "calm", "sad"),
        reverb=0.18,
    ),
    "minimalist": Style(
        tempo=(108, 156),
        beats=4,
        leads=("marimba", "piano"),
        chords=("marimba", "bells"),
        basses=("sub bass", "upright bass"),
        chord_pattern="x.xx.x.xx.x.x.xx",
        chord_hold=1.5,
        bass_pattern="1...............",
        bass_hold=12.0,
        melodies=("x.xx.xx.x.xx.xx.", "x.x.xx.x.x.x.xx.", "xx.x.xx.xx.x.xx."),
        drum_kit="",
        drum_phrase="without drums",
        drums={},
        moods=("happy", "calm", "dreamy", "energetic"),
        arpeggio=True,
        reverb=0.2,
    ),
}
