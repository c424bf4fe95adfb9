import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody_cm.data import ManifestCorpus, check_corpus, read_audio
from melody_cm.data.fluidsynth import SAMPLE_RATE, FluidSynth, MidiProblem
from melody_cm.data.rendering import Rendering


class Whistle(FluidSynth):
    """Plays a text file that holds a frequency, for four seconds; counts what it plays."""

    def __init__(self, identity="whistle"):
        self.identity, self.described, self.played, self.lock = identity, {"whistle": identity}, [], threading.Lock()

    def render(self, midi: Path):
        with self.lock:
            self.played.append(midi.name)
        text = midi.read_text()
        if not text.isdecimal():
            raise MidiProblem(f"{midi}: FluidSynth cannot play it")
        return 0.5 * np.sin(2 * np.pi * int(text) * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)


def row(name, midi=None, **fields):
    return {
        "id": name,
        "audio": None,
        "caption": f"the {name}",
        "midi": midi,
        "duration": 1.0,
        "license": "CC0",
    } | fields


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "midi").mkdir(parents=True)
    (folder / "wav").mkdir()
    for name, text in (("low", "220"), ("high", "880"), ("twin", "880")):
        (folder / "midi" / f"{name}.mid").write_text(text)
    soundfile.write(folder / "wav" / "own.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    (folder / "ATTRIBUTION.txt").write_text("by nobody")
    rows = [
        row("a", "midi/low.mid", start=0.0),
        row("b", "midi/low.mid", start=2.5, duration=2.0),
        row("c", "midi/high.mid", mood="Für Elise"),
        row("d", "midi/twin.mid"),
        row("own", audio="wav/own.wav"),
        row("nothing"),
        row("whole", "midi/high.mid", duration=None),
    ]
    write(folder, rows)
    return folder


def write(folder, rows):
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder):
    return {row["id"]: row for row in map(json.loads, (folder / "manifest.jsonl").read_text("utf-8").splitlines())}


def frequency(clip):
    waveform = read_audio(clip.audio, clip.start, clip.duration, SAMPLE_RATE).numpy()
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)[spectrum.argmax()]


def test_the_folder_is_a_corpus_of_its_own(source, tmp_path):
    out, whistle = tmp_path / "out", Whistle()
    report = Rendering(str(source), out, whistle).run(processes=2)
    assert report.rows == {"rendered": 5, "given": 1, "without MIDI": 1}
    assert report.problems == []
    # Two files of one content are one piece of music to play.
    assert report.midi_files == len(whistle.played) == 2
    before, after = read(source), read(out)
    assert list(after) == list(before)
    for name, found in after.items():
        assert {**found, "audio": None} == {**before[name], "audio": None}
    for file in source.rglob("*.*"):
        if file.name != "manifest.jsonl":
            (out / file.relative_to(source)).read_bytes()
            file.unlink()
    assert "Für Elise" in (out / "manifest.jsonl").read_text("utf-8")
    clips = {clip.id: clip for clip in ManifestCorpus(str(out)).clips()}
    assert [round(frequency(clips[name])) for name in "abcd"] == [220, 220, 880, 880]
    assert clips["c"].audio == clips["d"].audio
    assert soundfile.info(clips["whole"].audio).duration == 4.0
    # From 2.5 to 4.5 s of four seconds: the rest is silent.
    waveform = read_audio(clips["b"].audio, 0.0, None, SAMPLE_RATE).numpy()
    assert len(waveform) == 2 * SAMPLE_RATE
    assert np.flatnonzero(waveform)[-1] == pytest.approx(1.5 * SAMPLE_RATE, abs=20)
    checked = check_corpus(str(out))
    assert (checked.problems, checked.clips["train"], checked.without_audio) == ([], 6, 1)


def test_the_second_time_only_what_changed_is_played(source, tmp_path):
    out = tmp_path / "out"
    Rendering(str(source), out, Whistle()).run()
    first = read(out)
    whistle = Whistle()
    report = Rendering(str(source), out, whistle).run()
    assert (whistle.played, report.rows["already there"], report.rows["rendered"]) == ([], 5, 0)
    assert read(out) == first
    (source / "midi" / "low.mid").unlink()  # the renderings share its content by a hard link
    (source / "midi" / "low.mid").write_text("330")
    whistle = Whistle()
    report = Rendering(str(source), out, whistle).run()
    assert (whistle.played, report.rows["already there"], report.rows["rendered"]) == (["low.mid"], 3, 2)
    clips = {clip.id: clip for clip in ManifestCorpus(str(out)).clips()}
    assert round(frequency(clips["a"])) == 330
    assert (out / "midi" / "low.mid").read_text() == "330"
    other = Whistle("another sound font")
    assert Rendering(str(source), out, other).run().rows["rendered"] == 5


def test_a_rendering_that_was_stopped_goes_on(source, tmp_path):
    class Stopped(Whistle):
        def render(self, midi):
            if self.played:
                raise KeyboardInterrupt
            return super().render(midi)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        Rendering(str(source), out, Stopped()).run()
    # What is there is a corpus without sound, not a folder of sound files without captions.
    assert {found["audio"] for found in read(out).values()} == {None}
    assert len(list((out / "audio").iterdir())) == 2
    report = Rendering(str(source), out, Whistle()).run()
    assert (report.rows["already there"], report.rows["rendered"]) == (2, 3)
    Rendering(str(source), tmp_path / "at_once", Whistle()).run()
    assert read(out) == read(tmp_path / "at_once")


def test_what_cannot_be_rendered_is_one_line_and_the_rest_goes_on(source, tmp_path):
    (source / "midi" / "bad.mid").write_text("noise")
    bad = [
        row("bad1", "midi/bad.mid"),
        row("bad2", "midi/bad.mid", start=2.0),
        row("late", "midi/low.mid", start=4.0),
        row("absent", "midi/absent.mid"),
        row("climber", "../secret.mid"),
        row("odd", audio="ATTRIBUTION.txt"),
        row("gone", audio="wav/gone.wav"),
        row("short", "midi/low.mid", duration=0),
    ]
    write(source, [*read(source).values(), *bad])
    with (source / "manifest.jsonl").open("a") as file:
        file.write("{\n")
    report = Rendering(str(source), tmp_path / "out", Whistle()).run(2)
    assert (report.rows["rendered"], report.rows["failed"]) == (5, 9)
    expected = {
        8: "bad.mid: FluidSynth cannot play it", 10: "low.mid: silent from 4 s on", 11: "absent.mid: no such file",
        12: "'../secret.mid' lies outside", 13: "ATTRIBUTION.txt: not a sound file", 14: "gone.wav: no such file",
        15: "duration is 0", 16: "not JSON",
    }  # fmt: skip
    assert len(report.problems) == len(expected)
    for number, words in expected.items():
        assert any(f"manifest.jsonl, row {number}: " in line and words in line for line in report.problems), number
    found = read(tmp_path / "out")
    assert len(found) == 15
    assert {name for name, row in found.items() if row["audio"] is None} == {row["id"] for row in bad} | {"nothing"}
    assert len(ManifestCorpus(str(tmp_path / "out")).clips()) == 6


def test_only_its_own_folders_are_filled(source, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("me")
    for folder in (tmp_path / "photos", tmp_path / "photos" / "a.jpg", source):
        with pytest.raises(ValueError, match="neither empty nor an earlier rendering; give a new folder with --out"):
            Rendering(str(source), folder, Whistle())
    with pytest.raises(FileNotFoundError, match="no such manifest"):
        Rendering(str(tmp_path / "nowhere"), tmp_path / "out", Whistle())
    with pytest.raises(ValueError, match="processes is 0"):
        Rendering(str(source), tmp_path / "out", Whistle()).run(0)
    assert not (tmp_path / "out").exists()


def test_files_are_copied_where_they_cannot_be_linked(source, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("another file system")

    monkeypatch.setattr("os.link", refuse)
    Rendering(str(source), tmp_path / "out", Whistle()).run()
    assert (tmp_path / "out/wav/own.wav").read_bytes() == (source / "wav/own.wav").read_bytes()
    assert not (tmp_path / "out/wav/own.wav").samefile(source / "wav/own.wav")
