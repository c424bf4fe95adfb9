"""Procedural pieces of music: parameters drawn from a seed, the notes they lead to, the captions that say them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from melody_cm.data.styles import KEYS, MOODS, PROGRESSIONS, SCALES, STYLES, Mood, Style
from melody_cm.data.synthesis import Hit, Note, Performance
from melody_cm.randomness import keyed_seed

STEPS_A_BEAT = 4
Motif = list[tuple[int, int]]  # The step of each note in its bar, and its movement in scale degrees.


@dataclass(frozen=True)
class Piece:
    """The parameters of a piece; all of them can be heard."""

    style: str  # A name in STYLES.
    mood: str  # A name in MOODS.
    tempo: int  # Beats per minute.
    tonic: int  # 0 for C to 11 for B.
    mode: str  # A name in SCALES.
    lead: str  # Names of instruments.
    chords: str
    bass: str
    progression: tuple[int, ...]  # Scale degrees, one a bar.

    @property
    def key(self) -> str:
        return f"{KEYS[self.tonic]} {self.mode}"

    @property
    def instruments(self) -> list[str]:
        """Without repetition, melody first."""
        return list(dict.fromkeys((self.lead, self.chords, self.bass)))

    @property
    def rules(self) -> Style:
        return STYLES[self.style]

    @property
    def feeling(self) -> Mood:
        return MOODS[self.mood]


def draw_piece(seed: int, index: int) -> Piece:
    """Piece `index` of a corpus: styles come round in turn, everything else is drawn."""
    rng = np.random.default_rng(keyed_seed(seed, "synthetic piece", 0, index))
    name = list(STYLES)[index % len(STYLES)]
    style = STYLES[name]
    mood = _choose(rng, style.moods)
    slow, fast = style.tempo
    low, high = MOODS[mood].tempo
    lead = _choose(rng, style.leads)
    others = tuple(chord for chord in style.chords if chord != lead) or style.chords
    return Piece(
        style=name,
        mood=mood,
        tempo=round(slow + (fast - slow) * rng.uniform(low, high)),
        tonic=int(rng.integers(12)),
        mode=_choose(rng, MOODS[mood].modes),
        lead=lead,
        chords=_choose(rng, others),
        bass=_choose(rng, style.basses),
        progression=_choose(rng, PROGRESSIONS),
    )


def perform(piece: Piece, seconds: float, seed: int, index: int, section: int) -> Performance:
    """At least `seconds` of a piece; sections of one piece share everything but the melody and the place to begin."""
    rng = np.random.default_rng(keyed_seed(seed, "synthetic section", section, index))
    bar = piece.rules.beats * 60 / piece.tempo
    performance = Performance(
        kit=piece.rules.drum_kit,
        brightness=piece.feeling.brightness,
        reverb=piece.rules.reverb + piece.feeling.reverb,
    )
    melody = _melody_bars(piece, rng)
    for number in range(int(np.ceil(seconds / bar))):
        degree = piece.progression[(number + 2 * section) % len(piece.progression)]
        steps = _step_times(piece, number * bar)
        performance.notes += _chord_notes(piece, degree, steps)
        performance.notes += _bass_notes(piece, degree, steps)
        performance.notes += _melody_notes(piece, degree, steps, melody[number % len(melody)])
        performance.hits += _drum_hits(piece, steps)
    return performance


def piece_captions(piece: Piece, seed: int, index: int, section: int) -> list[str]:
    """A sentence, a second one and a list of tags, all true."""
    rng = np.random.default_rng(keyed_seed(seed, "synthetic caption", section, index))
    pace, style, drums = pace_word(piece.tempo), piece.style, piece.rules.drum_phrase
    article = "An" if piece.mood[0] in "aeiou" else "A"
    beat = drums if drums.startswith("without") else f"with {drums}"
    band = " and ".join(piece.instruments[1:])
    solo = f"{piece.lead} over {band}" if band else piece.lead
    sentences = [
        f"{article} {piece.mood} {style} piece in {piece.key} at a {pace} tempo: {solo}, {beat}.",
        f"This is a {pace} {style} track featuring {solo} {beat}. It sounds {piece.mood} and is in {piece.key}.",
        f"{piece.lead.capitalize()} leads {article.lower()} {piece.mood} {style} tune {beat}, "
        f"at about {piece.tempo} BPM in {piece.key}" + (f", accompanied by {band}." if band else "."),
    ]
    first, second = rng.permutation(len(sentences))[:2]
    tags = [style, piece.mood, f"{pace} tempo", *piece.instruments, drums.removeprefix("a "), piece.key]
    return [sentences[first], sentences[second], ", ".join(tags)]


def piece_fields(piece: Piece) -> dict[str, Any]:
    """The parameters as fields of a manifest's row."""
    return {
        "genre": piece.style,
        "mood": piece.mood,
        "tempo_bpm": piece.tempo,
        "key": piece.key,
        "meter": f"{piece.rules.beats}/4",
        "instruments": piece.instruments,
        "drums": piece.rules.drum_phrase,
    }


def pace_word(tempo: int) -> str:
    """How a tempo in beats per minute is called."""
    return "slow" if tempo < 84 else "moderate" if tempo < 108 else "fast" if tempo < 136 else "very fast"


def _choose(rng: np.random.Generator, options: tuple[Any, ...]) -> Any:
    return options[int(rng.integers(len(options)))]


def _step_times(piece: Piece, start: float) -> np.ndarray:
    """Seconds at which the steps of a bar begin, and the bar's end."""
    steps = np.arange(piece.rules.beats * STEPS_A_BEAT + 1)
    late = piece.rules.swing * (steps % STEPS_A_BEAT == 2)
    return start + (steps / STEPS_A_BEAT + late) * 60 / piece.tempo


def _pitch(piece: Piece, degree: int, lowest: int) -> int:
    """MIDI pitch of a scale degree, counted from the lowest tonic that is not below `lowest`."""
    octave, step = divmod(degree, 7)
    return lowest + (piece.tonic - lowest) % 12 + 12 * octave + SCALES[piece.mode][step]


def _chord(piece: Piece, degree: int) -> list[int]:
    """The chord's pitches, folded into one octave above G3, so that chords follow each other smoothly."""
    thirds = (0, 2, 4, 6) if piece.rules.sevenths else (0, 2, 4)
    return sorted(55 + (_pitch(piece, degree + third, 55) - 55) % 12 for third in thirds)


def _onsets(pattern: str) -> Iterator[tuple[int, str]]:
    """The steps of a pattern at which something sounds, and their signs."""
    return ((step, sign) for step, sign in enumerate(pattern) if sign != ".")


def _chord_notes(piece: Piece, degree: int, steps: np.ndarray) -> Iterator[Note]:
    pitches = _chord(piece, degree)
    seconds = piece.rules.chord_hold * 15 / piece.tempo
    level = (0.5 if piece.rules.arpeggio else 0.42) * piece.feeling.velocity
    for count, (step, _) in enumerate(_onsets(piece.rules.chord_pattern)):
        for pitch in [pitches[count % len(pitches)]] if piece.rules.arpeggio else pitches:
            yield Note(piece.chords, pitch, steps[step], seconds, level)


def _bass_notes(piece: Piece, degree: int, steps: np.ndarray) -> Iterator[Note]:
    seconds = piece.rules.bass_hold * 15 / piece.tempo
    for step, sign in _onsets(piece.rules.bass_pattern):
        pitch = _pitch(piece, degree + int(sign) - 1, 31)
        yield Note(piece.bass, pitch - 12 * (pitch > 52), steps[step], seconds, 0.75)


def _melody_bars(piece: Piece, rng: np.random.Generator) -> list[Motif]:
    """Eight bars in the form A A' B A'."""
    rhythms = [_choose(rng, piece.rules.melodies) for _ in range(2)]
    a, ending, b, other = (_motif(rhythms[i % 2], rng) for i in range(4))
    return [a, b, a, ending, other, b, a, ending]


def _motif(rhythm: str, rng: np.random.Generator) -> Motif:
    onsets = [step for step, _ in _onsets(rhythm)]
    moves = rng.choice([-2, -1, -1, 1, 1, 2, 3, -3], size=len(onsets))
    return [(step, int(move)) for step, move in zip(onsets, moves, strict=True)]


def _melody_notes(piece: Piece, degree: int, steps: np.ndarray, motif: Motif) -> Iterator[Note]:
    """Strong beats land on the chord; between them the line moves by its motif, kept within a tenth."""
    position = degree % 7
    ends = [step for step, _ in motif[1:]] + [len(steps) - 1]
    for (step, move), end in zip(motif, ends, strict=True):
        position += move
        if step % (2 * STEPS_A_BEAT) == 0:
            position = degree + 2 * round((position - degree) / 2)
        position = position - 7 if position > 9 else position + 7 if position < -1 else position
        pitch = _pitch(piece, position, 62 + piece.feeling.shift)
        seconds = 0.92 * (steps[end] - steps[step])
        yield Note(piece.lead, pitch, steps[step], seconds, 0.95 * piece.feeling.velocity)


def _drum_hits(piece: Piece, steps: np.ndarray) -> Iterator[Hit]:
    for drum, pattern in piece.rules.drums.items():
        for step, sign in _onsets(pattern):
            yield Hit(drum, steps[step], 0.9 if sign == "x" else 0.45)
