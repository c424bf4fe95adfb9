import json
import shutil

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, filtfilt

from melody_cm.data import fluidsynth
from melody_cm.data.fluidsynth import SAMPLE_RATE, SOUND_FONT, FluidSynth, MidiProblem, cut_out, level
from melody_cm.storage import hash_file


@pytest.fixture
def synthesizer():
    if not shutil.which("fluidsynth") or not SOUND_FONT.is_file():
        pytest.skip("FluidSynth or its sound font is not installed")
    return FluidSynth()


def midi_bytes(*events):
    """A file of one track; events are (delta in ticks of 1/960 s, bytes of the message)."""
    track = b"".join(variable_length(delta) + bytes(message) for delta, message in events) + b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1, 1, 224])
    return header + b"MTrk" + len(track).to_bytes(4, "big") + track


def variable_length(number):
    digits = [number & 127]
    while number := number >> 7:
        digits.append(128 | number & 127)
    return bytes(reversed(digits))


NOTE = midi_bytes((0, [0xC0, 73]), (960, [0x90, 69, 100]), (1920, [0x80, 69, 0]))


def test_levels_are_those_of_the_recipe():
    rng = np.random.default_rng(0)
    quiet = 0.001 * rng.standard_normal(24000) + 0.3
    by_rms = level(quiet, 24000)
    assert np.sqrt(np.square(by_rms).mean()) == pytest.approx(0.1, rel=1e-9)
    click = np.zeros(24000)
    click[12000] = 0.5
    assert np.abs(level(click, 24000)).max() == pytest.approx(0.95, rel=1e-9)


def test_the_high_pass_is_of_second_order_both_ways():
    rng = np.random.default_rng(1)
    waveform = rng.standard_normal(48000)
    expected = filtfilt(*butter(2, 25.0, "highpass", fs=24000), waveform)
    expected *= 0.1 / np.sqrt(np.square(expected).mean())
    np.testing.assert_allclose(level(waveform, 24000), expected, atol=1e-7)
    # Both ways: half the amplitude at the corner, no delay.
    seconds = np.arange(20 * 24000) / 24000
    mixed = np.sin(2 * np.pi * 25 * seconds) + np.sin(2 * np.pi * 1000 * seconds)
    result = level(mixed, 24000)[5 * 24000 : 15 * 24000]
    low, high = (np.mean(result * np.exp(-2j * np.pi * f * seconds[: len(result)])) for f in (25, 1000))
    assert abs(low) / abs(high) == pytest.approx(0.5, abs=0.01)


def test_cutting():
    waveform = np.arange(1, 101) / 100
    np.testing.assert_array_equal(cut_out(waveform, 0.5, 0.2, 100), waveform[50:70])
    np.testing.assert_array_equal(cut_out(waveform, 0.9, 0.2, 100), [*waveform[90:], *np.zeros(10)])
    np.testing.assert_array_equal(cut_out(waveform, 0.9, None, 100), waveform[90:])
    with pytest.raises(MidiProblem, match=r"silent from 1 s on, the music ends at 1\.00 s"):
        cut_out(waveform, 1.0, 0.2, 100)
    with pytest.raises(MidiProblem, match="silent"):
        cut_out(np.zeros(100), 0.0, 0.2, 100)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(FileNotFoundError, match=r"fluidsynth is not installed; .* fluidsynth fluid-soundfont-gm"):
            FluidSynth()
    (tmp_path / "fluidsynth").write_text("#!/bin/sh\necho FluidSynth runtime version 9\n")
    (tmp_path / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fluidsynth, "SOUND_FONT", tmp_path / "none.sf2")
    with pytest.raises(FileNotFoundError, match="no such sound font; install the Debian packages"):
        FluidSynth(tmp_path / "none.sf2")
    with pytest.raises(FileNotFoundError, match="give another --sound-font"):
        FluidSynth(tmp_path / "other.sf2")
    (tmp_path / "text.sf2").write_text("hello, I am no sound font")
    with pytest.raises(ValueError, match="not a SoundFont 2 file"):
        FluidSynth(tmp_path / "text.sf2")


def test_the_identity_follows_the_sound_font(tmp_path, monkeypatch):
    (tmp_path / "fluidsynth").write_text("#!/bin/sh\necho FluidSynth runtime version 9\n")
    (tmp_path / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / f"{name}.sf2").write_bytes(b"RIFF\x00\x00\x00\x00sfbk" + content)
    a, b, c = (FluidSynth(tmp_path / f"{name}.sf2") for name in "abc")
    assert a.identity == b.identity != c.identity
    assert a.described == {
        "recipe": 1, "program": "FluidSynth runtime version 9", "sound_font": hash_file(tmp_path / "a.sf2")
    }  # fmt: skip


def test_a_note_sounds_where_it_is_written(tmp_path, synthesizer):
    (tmp_path / "note.mid").write_bytes(NOTE)
    waveform = synthesizer.render(tmp_path / "note.mid")
    assert np.abs(waveform[: SAMPLE_RATE - 500]).max() < 0.01
    flute = waveform[SAMPLE_RATE + 6000 : 3 * SAMPLE_RATE]
    spectrum = np.abs(np.fft.rfft(flute * np.hanning(len(flute))))
    assert np.fft.rfftfreq(len(flute), 1 / SAMPLE_RATE)[spectrum.argmax()] == pytest.approx(440, rel=0.01)
    np.testing.assert_array_equal(waveform, synthesizer.render(tmp_path / "note.mid"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "cannot play"),
        (b"", "cannot play"),
        (NOTE[:30], "cannot play"),
        (midi_bytes((0, [0xC0, 73]), (960, [0xB0, 7, 100])), "silent"),
    ],
    ids=["text", "empty", "truncated", "no notes"],
)
def test_midi_files_without_music(tmp_path, synthesizer, content, words):
    (tmp_path / "bad.mid").write_bytes(content)
    with pytest.raises(MidiProblem, match=rf"bad\.mid: .*{words}"):
        synthesizer.render(tmp_path / "bad.mid")


def test_endless_music_is_stopped(tmp_path, synthesizer, monkeypatch):
    monkeypatch.setattr(fluidsynth, "MAX_WAV_BYTES", 10_000_000)
    (tmp_path / "long.mid").write_bytes(midi_bytes((0, [0x90, 69, 100]), (0x0FFFFFFF, [0x80, 69, 0])))
    with pytest.raises(MidiProblem, match="longer than"):
        synthesizer.render(tmp_path / "long.mid")


def test_a_bad_sound_font_is_not_replaced_in_silence(tmp_path, synthesizer):
    with SOUND_FONT.open("rb") as file:
        (tmp_path / "cut.sf2").write_bytes(file.read(100_000))
    (tmp_path / "note.mid").write_bytes(NOTE)
    with pytest.raises(MidiProblem, match="cannot play"):
        FluidSynth(tmp_path / "cut.sf2").render(tmp_path / "note.mid")


def si_sdr(estimate, reference):
    scaled = reference * (estimate @ reference) / (reference @ reference)
    return 10 * np.log10(np.square(scaled).sum() / np.square(estimate - scaled).sum())


def test_it_is_the_sound_of_the_ready_rendered_files(tmp_path, synthesizer, shared_data):
    """Coded as those are, a rendering is nearer to them than what the codec adds: the same sound went in."""
    folder = shared_data / "realmusic"
    with (folder / "manifest.jsonl").open(encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["audio"]][:40:20]
    for row in rows:
        excerpt = synthesizer.render(folder / row["midi"])
        clip = cut_out(excerpt, row["start"], row["duration"], SAMPLE_RATE)
        ready = soundfile.read(folder / row["audio"])[0]
        coded = tmp_path / "coded.opus"
        soundfile.write(coded, clip, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=0.864)
        assert len(clip) == len(ready)
        assert si_sdr(ready, soundfile.read(coded)[0]) > si_sdr(ready, clip) + 6
        assert si_sdr(ready, clip) > 10
        assert ready.std() == pytest.approx(clip.std(), rel=0.03)
