"""The script that makes the corpus of the demo systems: scores moved, described and found, without playing them."""

import importlib.util
import random
import struct
from pathlib import Path

import mido
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "recipes/demo/corpus.py"


@pytest.fixture(scope="module")
def corpus():
    spec = importlib.util.spec_from_file_location("demo_corpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def score(tmp_path) -> Path:
    """Two seconds: a note of the piano, one of the bass, a drum; 120 beats a minute by default."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    for channel, program, note in ((0, 0, 60), (1, 33, 36), (9, 0, 38)):
        track.append(mido.Message("program_change", channel=channel, program=program))
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=90))
    track.append(mido.Message("note_off", channel=0, note=60, time=4 * 480))
    file.save(tmp_path / "score.mid")
    return tmp_path / "score.mid"


def notes(file: mido.MidiFile) -> list[int]:
    return [m.note for track in file.tracks for m in track if m.type == "note_on"]


def test_a_changed_score_has_other_notes_but_the_same_drums_and_another_length(corpus, score):
    changed = corpus.changed_score(score, semitones=3, speed=1.25)
    assert notes(changed) == [63, 39, 38]
    assert changed.length == pytest.approx(mido.MidiFile(score).length / 1.25, rel=1e-4)


@pytest.mark.parametrize(
    ("key", "semitones", "expected"),
    [("C major", 2, "D major"), ("E flat minor", -4, "B minor"), ("F sharp minor", 1, "G minor"), (None, 3, None)],
)
def test_keys_move_with_the_notes(corpus, key, semitones, expected):
    assert corpus.transposed(key, semitones) == expected


def test_an_untitled_score_is_described_by_its_events(corpus, score):
    fields = corpus.freedoom_fields(mido.MidiFile(score))
    assert fields["instruments"] == ["piano", "bass", "drums"]
    assert fields["tempo_bpm"] == 120


def test_wordings_say_nothing_that_the_fields_do_not(corpus):
    row = {"genre": "waltz", "mood": "calm", "tempo_bpm": 70, "key": "D minor", "instruments": ["accordion", "drums"]}
    texts = {corpus.wording(row, random.Random(seed)) for seed in range(200)}
    assert len(texts) > 20
    joined = " ".join(texts).lower()
    assert {"waltz", "calm", "slow", "accordion", "drums", "minor"} <= set(joined.replace(",", " ").split())
    assert not {"fast", "moderate", "major", "solo", "without"} & set(joined.split())


def test_midi_lumps_of_a_wad_are_found_by_their_heads(corpus, tmp_path):
    lumps = [(b"NOTES", b"MThd and more"), (b"PICTURE", b"other"), (b"D_E1M1", b"MThd!")]
    data, table = b"", b""
    for name, content in lumps:
        table += struct.pack("<ii8s", 12 + len(data), len(content), name)
        data += content
    (tmp_path / "game.wad").write_bytes(struct.pack("<4sii", b"IWAD", 3, 12 + len(data)) + data + table)
    assert list(corpus.midi_lumps(tmp_path / "game.wad")) == [("NOTES", b"MThd and more"), ("D_E1M1", b"MThd!")]
