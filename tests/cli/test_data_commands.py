import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import melody_cm
from melody_cm.cli.main import main
from melody_cm.data import ManifestCorpus, write_corpus
from melody_cm.data.fluidsynth import INSTALL, SOUND_FONT


def run(*arguments):
    return main(["data", *map(str, arguments)])


@pytest.fixture
def music(tmp_path):
    write_corpus(tmp_path / "music", 20, seconds=1.0, sample_rate=8000)
    return tmp_path / "music"


def test_procedural_music_elsewhere(tmp_path, capsys):
    folder = tmp_path / "deep" / "music"
    command = ["make-synthetic", folder, "--clips", 4, "--seed", 7, "--seconds", "0.5", "--sample-rate", 8000]
    assert run(*command) == 0
    assert "4 clips of 0.5 s" in capsys.readouterr().out
    clips = ManifestCorpus(str(folder)).clips()
    assert next(clip.id for clip in clips) == "synthetic_7_000000_0"
    assert run(*command) == 0
    assert run(*command[:-1], 16000) == 2
    assert "holds something else" in capsys.readouterr().err
    assert run("make-synthetic", tmp_path / "few", "--clips", 2, "--seed", 7) == 2
    assert "num_clips is 2" in capsys.readouterr().err


def test_a_split(music, capsys):
    assert run("split", music, "--out", music / "new.jsonl", "--ratios", "60,20,20", "--seed", 1) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["train", "valid", "test"]
    clips = ManifestCorpus(str(music / "new.jsonl")).clips()
    for line in printed:
        pieces = {clip.piece for clip in clips if clip.split == line.split()[0]}
        count = sum(clip.split == line.split()[0] for clip in clips)
        assert line.split()[1:] == [str(count), "clips", f"{count / 3600:.3f}", "hours", str(len(pieces)), "pieces"]
    assert run("split", music, "--out", music / "manifest.jsonl", "--seed", 1) == 2
    assert "--force" in capsys.readouterr().err
    assert run("split", music, "--out", music / "all.jsonl", "--ratios", "1,1e-9,0") == 0
    printed = capsys.readouterr().out
    assert "no piece fell into valid" in printed
    assert "no piece fell into test" not in printed
    with pytest.raises(SystemExit):
        run("split", music, "--out", music / "new.jsonl", "--ratios", "some")


def test_duplicates(music, capsys):
    assert run("duplicates", music, "--strict") == 0
    assert "clips compared: 20; not readable: 0\nnear duplicates across splits: 0" in capsys.readouterr().out
    rows = [json.loads(line) for line in (music / "manifest.jsonl").read_text().splitlines()]
    copied = next(row for row in rows if row["split"] == "train")
    copy = copied | {"id": "copy", "audio": "copy.flac", "split": "test", "piece": "other"}
    shutil.copy(music / copied["audio"], music / "copy.flac")
    (music / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, copy]))
    assert run("duplicates", music) == 0
    assert f"1.000 train {copied['id']} = test copy (+0.00 s)" in capsys.readouterr().out
    assert run("duplicates", music, "--strict") == 2
    assert run("duplicates", music, "--threshold", 2) == 2
    assert "threshold is 2.0" in capsys.readouterr().err


def test_a_table_of_another_format(tmp_path, music, capsys):
    lines = ["id,audio,caption", "a,audio/000000.flac,x", "b,none.flac,y", ",c.flac,z"]
    (music / "songs.csv").write_text("\n".join(lines))
    out = music / "imported.jsonl"
    assert run("import", "csv", music / "songs.csv", "--out", out, "--default-split", "valid") == 2
    printed = capsys.readouterr().out
    assert "songs.csv, row 4: the id is empty" in printed
    assert f"songs.csv, row 3: {music / 'none.flac'}: no such file" in printed
    assert ": clips: 1 valid; rows without audio: 0\nleft out, no such file: 1; problems: 1\n" in printed
    assert run("check", out, "--strict") == 0
    (music / "songs.csv").write_text("\n".join(lines[:2]))
    assert run("import", "csv", music / "songs.csv", "--out", out) == 2
    assert "replace it by --force" in capsys.readouterr().err
    assert run("import", "csv", music / "songs.csv", "--out", out, "--force") == 0
    assert run("import", "csv", music / "songs.csv", "--out", tmp_path / "other" / "m.jsonl") == 2
    assert "does not lie above" in capsys.readouterr().err
    assert run("import", "csv", music / "songs.csv", "--out", out, "--subset", "small") == 2
    assert "the format csv has no option subset" in capsys.readouterr().err
    assert run("import", "tsv", music / "songs.csv", "--out", out) == 2
    assert "there is no format 'tsv'; use one of csv, audiocraft" in capsys.readouterr().err


def test_names_from_elsewhere_command_no_terminal(tmp_path, capsys):
    row = {"id": "a", "audio": "\x1b[31m\x07ü.wav", "caption": "x"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row))
    assert run("check", tmp_path) == 2
    assert r"\x1b[31m\x07ü.wav: no such file" in capsys.readouterr().out


def test_encode_hands_on_what_it_is_told(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(melody_cm, "Setting", lambda *given: given, raising=False)
    monkeypatch.setattr(melody_cm, "plan", lambda *given: list(given), raising=False)
    monkeypatch.setattr(melody_cm, "Run", lambda path: path, raising=False)
    monkeypatch.setattr(melody_cm, "encode", lambda *given, **more: calls.append((given, more)), raising=False)
    command = ["encode", tmp_path, "--size", "tiny", "--run", "r", "--runs", tmp_path, "--again", "--processes", 2]
    command += ["--device", "cpu", "--precision", "bf16"]
    assert run(*command, "--data.seconds=2") == 0
    setting = ("tiny", "cpu", None, ["--data.seconds=2"])
    options = {
        "processes": 2,
        "placement": melody_cm.Placement.choose("cpu", "bf16"),
        "again": True,
        "skip_unfinished": True,
    }
    assert calls == [(([str(tmp_path), setting], tmp_path / "r"), options)]


def test_rendering_without_fluidsynth_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "manifest.jsonl").write_text("")
    assert run("render", tmp_path, "--out", tmp_path / "out") == 2
    assert INSTALL in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for processes in ("0", "-1", "two"):
        with pytest.raises(SystemExit):
            run("render", tmp_path, "--out", tmp_path / "out", "--processes", processes)


@pytest.fixture
def scores(tmp_path, shared_data):
    """Six real MIDI files, one clip each; skipped without FluidSynth."""
    if not shutil.which("fluidsynth") or not SOUND_FONT.is_file():
        pytest.skip("FluidSynth or its sound font is not installed")
    folder = tmp_path / "scores"
    (folder / "midi").mkdir(parents=True)
    files = sorted((shared_data / "realmusic" / "midi").glob("*.mid"))[:6]
    rows = [{"id": f.stem, "audio": None, "caption": "x", "midi": f"midi/{f.name}", "duration": 5.0} for f in files]
    for file in files:
        shutil.copy(file, folder / "midi")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_a_killed_rendering_goes_on_and_makes_the_same(scores, tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "melody_cm.cli.main", "data", "render", str(scores), "--out", str(killed)]
    process = subprocess.Popen([*command, "--processes", "1"], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("audio/*.flac"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = len(list(killed.glob("audio/[!.]*.flac")))
    assert 2 <= there < 6
    assert run("check", killed) == 2
    assert "rows without audio, left out: 6" in capsys.readouterr().out
    assert run("render", scores, "--out", killed) == 0
    assert f"there already: {there};" in capsys.readouterr().out
    assert run("render", scores, "--out", whole, "--processes", 2) == 0
    assert "rendered: 6 clips of 6 MIDI files" in capsys.readouterr().out
    files = {file.relative_to(whole): file.read_bytes() for file in whole.rglob("*.*") if file.is_file()}
    assert all((killed / name).read_bytes() == content for name, content in files.items())
    assert run("check", whole, "--strict") == 0
    (scores / "midi" / "noise.mid").write_text("noise")
    with (scores / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": "noise", "audio": None, "caption": "x", "midi": "midi/noise.mid"}) + "\n")
    assert run("render", scores, "--out", whole) == 2
    printed = capsys.readouterr().out
    assert "row 7: " in printed
    assert "without sound: 1 failed" in printed
