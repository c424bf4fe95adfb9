"""`melody-cm generate` on a saved toy pipeline."""

import argparse
import io
import json
from importlib.metadata import version

import pytest
import soundfile
import torch
from toy_systems import SAMPLE_RATE, toy_melody, toy_musiccm

from melody_cm.cli import generate as verb
from melody_cm.data import read_prompts
from melody_cm.pipelines import Request, generate_files
from melody_cm.pipelines.growing_wav import GrowingWav


def run(*words):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def saved(tmp_path):
    toy_melody().save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def test_every_prompt_becomes_a_wav_and_a_json(saved, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("# ours\n\nSlow strings, no drums\n")
    out = tmp_path / "out"
    words = ("--prompt", "A calm piano!", "--prompt", "fast drums", "--prompts", tmp_path / "prompts.txt")
    assert run(saved, *words, "--seconds", 0.5, "--seed", 4, "--steps", 2, "--batch-size", 2, "--out", out) == 0
    stems = ["000_a_calm_piano_seed4", "001_fast_drums_seed4", "002_slow_strings_no_drums_seed4"]
    assert sorted(file.name for file in out.iterdir()) == sorted(
        f"{stem}.{end}" for stem in stems for end in ("json", "wav")
    )
    expected = toy_melody().generate(["A calm piano!", "fast drums", "Slow strings, no drums"], 0.5, 4, 2).waveform
    for stem, waveform in zip(stems, expected, strict=True):
        info = soundfile.info(out / f"{stem}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        written = torch.from_numpy(soundfile.read(out / f"{stem}.wav", dtype="float32")[0])
        torch.testing.assert_close(written, waveform[0], rtol=0, atol=1e-4)
    assert "3 clip(s)" in capsys.readouterr().out


def test_the_json_says_how_the_clip_was_made(saved, tmp_path):
    run(saved, "--prompt", "a", "--prompt", "b", "--seconds", 0.5, "--seed", 4, "--out", tmp_path / "out")
    made = json.loads((tmp_path / "out" / "001_b_seed4.json").read_text())
    expected = {"prompt": "b", "clip_index": 1, "seed": 4, "num_steps": 3, "guidance_scale": 2.5, "system": "MeLoDy"}
    assert {key: made[key] for key in expected} == expected
    assert made["weights"] == toy_melody().weight_hashes()
    assert made["sample_rate"] == SAMPLE_RATE
    assert set(made["timings"]) == {"planner", "denoiser", "decoder"}
    assert made["versions"]["torch"] == version("torch")


def test_weights_are_hashed_once_as_they_are_read(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.storage.hash_weights", lambda network: pytest.fail("hashed again"))
    run(saved, "--prompt", "a", "--seconds", 0.5, "--out", tmp_path / "out")


def test_a_prompt_without_latin_letters_still_has_a_file(saved, tmp_path):
    run(saved, "--prompt", "静かなピアノ", "--seconds", 0.5, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "000_静かなピアノ_seed0.wav").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seconds", 99, "--prompt", "a"), "at most 1 seconds"),
        (("--seconds", 0.5), "there is no prompt"),
        (("--seconds", 0.5, "--prompts", "nowhere.txt"), r"nowhere\.txt: no such file"),
        (("--seconds", 0.5, "--prompt", "a", "--steps", 0), "1 to 1000 steps"),
        (("--seconds", 0.5, "--prompt", "a", "--batch-size", 0), "batch_size is 0"),
    ],
)
def test_wrong_requests_write_nothing(saved, tmp_path, words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(saved, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_guidance_for_a_student_and_a_wrong_folder_are_refused(tmp_path):
    toy_musiccm().save_pretrained(tmp_path / "student")
    words = ("--prompt", "a", "--seconds", 0.5, "--out", tmp_path / "out")
    with pytest.raises(ValueError, match="built in"):
        run(tmp_path / "student", "--guidance-scale", 2, *words)
    with pytest.raises(FileNotFoundError, match="no folder"):
        run(tmp_path / "nowhere", *words)


def asked(saved, out, *words):
    run(saved, "--seconds", 0.5, "--out", out, *words)
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in sorted(out.glob("*.wav"))}


def test_numbers_are_as_long_as_the_last_one(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "melody_cm.pipelines.files._write", lambda parts, *_: (c.path for clips, _ in parts for c in clips)
    )
    (tmp_path / "p.txt").write_text("\ufeff# ours\r\n" + "\r\n".join(f"piece {index}" for index in range(1005)))
    prompts = read_prompts(tmp_path / "p.txt")
    paths = list(generate_files(saved, Request(prompts, 0.5), tmp_path / "out"))
    assert [path.name for path in paths] == sorted(path.name for path in paths)
    assert paths[1004].name == "1004_piece_1004_seed0.wav"


@pytest.mark.parametrize("words", [("--steps", 2), ("--guidance-scale", 3), ("--seconds", 0.4)])
def test_music_of_another_request_is_never_replaced(saved, tmp_path, words):
    before = asked(saved, tmp_path / "out", "--prompt", "安静的钢琴")
    with pytest.raises(
        ValueError, match=r"is there, made with another .*; give another --out, or replace it by --over"
    ):
        asked(saved, tmp_path / "out", "--prompt", "安静的钢琴", *words)
    other = asked(saved, tmp_path / "out", "--prompt", "快节奏的鼓")
    assert asked(saved, tmp_path / "out", "--prompt", "安静的钢琴", "--seed", 1).items() >= (before | other).items()
    (name,) = before
    after = asked(saved, tmp_path / "out", "--prompt", "安静的钢琴", *words, "--overwrite")
    assert after[name] != before[name]


def test_a_file_that_nothing_is_known_of_is_not_replaced(saved, tmp_path):
    (tmp_path / "000_a_seed0.wav").write_bytes(b"mine")
    with pytest.raises(ValueError, match="nothing says how it was made"):
        asked(saved, tmp_path, "--prompt", "a")
    assert (tmp_path / "000_a_seed0.wav").read_bytes() == b"mine"


def test_what_was_interrupted_goes_on(saved, tmp_path, monkeypatch):
    words = ("--prompt", "a", "--prompt", "b", "--prompt", "c", "--batch-size", 1)
    whole, write, made = asked(saved, tmp_path / "whole", *words), GrowingWav.write, []

    def stopped(self, waveform):
        made.append(self.path.name)
        if len(made) == 2:
            raise KeyboardInterrupt
        write(self, waveform)

    monkeypatch.setattr(GrowingWav, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        asked(saved, tmp_path / "out", *words)
    after = asked(saved, tmp_path / "out", *words)
    assert made == [f"{stem}_seed0.wav" for stem in ("000_a", "001_b", "001_b", "002_c")]
    assert {name: sound for name, (sound, _) in after.items()} == {name: sound for name, (sound, _) in whole.items()}
    assert asked(saved, tmp_path / "out", *words) == after
    assert len(made) == 4


@pytest.mark.parametrize("size", [0, 30, 100, -200])
def test_a_clip_that_was_cut_since_is_made_again(saved, tmp_path, size):
    whole = asked(saved, tmp_path, "--prompt", "a")
    ((name, (sound, _)),) = whole.items()
    (tmp_path / name).write_bytes(sound[:size])
    again = asked(saved, tmp_path, "--prompt", "a")
    assert again[name][0] == sound


def test_two_commands_do_not_write_one_file(tmp_path):
    with GrowingWav(tmp_path / "a.wav", 800) as file:
        file.write(torch.ones(1, 8))
        with (
            pytest.raises(ValueError, match=r"a\.partial\.wav: another command is writing it"),
            GrowingWav(file.path, 800),
        ):
            pass
    assert soundfile.info(tmp_path / "a.wav").frames == 8


def test_locks_of_killed_commands_are_taken_away_and_no_others(tmp_path):
    (tmp_path / ".old.partial.wav.lock").touch()
    (tmp_path / ".foreign.lock").touch()
    with GrowingWav(tmp_path / "a.wav", 800), GrowingWav(tmp_path / "b.wav", 800):
        assert {path.name for path in tmp_path.glob(".*")} == {
            *(".a.partial.wav.lock", ".b.partial.wav.lock", ".foreign.lock")
        }


def test_a_place_that_cannot_be_written_is_found_before_the_pipeline_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.pipelines.PretrainedPipeline.from_pretrained", None)
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(OSError, match="no files can be written there"):
            run(tmp_path, "--prompt", "a", "--seconds", 0.5, "--out", out)


def test_prompts_that_are_not_utf8_are_told_before_the_work(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"calm\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"p\.txt: not UTF-8 text \(line 2"):
        run(tmp_path, "--prompts", tmp_path / "p.txt", "--seconds", 0.5, "--out", tmp_path / "out")
    with pytest.raises(ValueError, match="is not UTF-8 text; write it anew"):
        run(tmp_path, "--prompt", "caf\udce9", "--seconds", 0.5, "--out", tmp_path / "out")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_one_clip_goes_into_one_file_of_any_format(suffix, saved, tmp_path):
    out = tmp_path / "new" / f"piano.{suffix}"
    out.parent.mkdir()
    words = (saved, "--prompt", "a calm piano", "--seconds", 0.5, "--out", out, "--seed")
    run(*words, 3)
    expected = toy_melody()("a calm piano", 0.5, seed=3).numpy()
    samples, rate = soundfile.read(out, dtype="float32")
    assert rate == SAMPLE_RATE
    assert {file.name for file in out.parent.iterdir()} == {f"piano.{suffix}", "piano.json"}
    assert json.loads((out.parent / "piano.json").read_text())["prompt"] == "a calm piano"
    if suffix in ("wav", "flac"):
        assert abs(samples - expected).max() < 1e-4
    before = out.stat().st_mtime_ns
    run(*words, 3)
    assert out.stat().st_mtime_ns == before, "the same request is made already"
    with pytest.raises(ValueError, match="made with another seed"):
        run(*words, 4)
    with pytest.raises(ValueError, match="2 clips do not fit into"):
        run(saved, "--prompt", "a", "--prompt", "b", "--seconds", 0.5, "--out", tmp_path / "two.wav")


def test_the_standard_output_takes_a_wav_while_it_is_made(tmp_path, monkeypatch):
    """It cannot be rewound: the header is right from the beginning, and nothing else is printed there."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, data):
            Pipe.data += bytes(data)
            return len(data)

    toy_musiccm().save_pretrained(tmp_path / "long")
    monkeypatch.setattr(
        "sys.stdout", type("Out", (), {"buffer": io.BufferedWriter(Pipe()), "flush": lambda self: None})()
    )
    run(tmp_path / "long", "--prompt", "a calm piano", "--seconds", 2.5, "--out", "-")
    samples, rate = soundfile.read(io.BytesIO(Pipe.data), dtype="float32")
    expected = toy_musiccm()("a calm piano", 2.5).numpy()
    assert (rate, len(samples)) == (SAMPLE_RATE, len(expected))
    assert abs(samples - expected).max() < 1e-4


def test_progress_counts_seconds_of_music(tmp_path):
    made = []
    request = Request(["a", "b", "c"], 2.5)
    list(generate_files(toy_musiccm(), request, tmp_path / "out", batch_size=2, on_block=made.append))
    assert len(made) > 3
    assert sum(made) == pytest.approx(7.5)


def test_prompts_of_a_table(saved, tmp_path):
    (tmp_path / "p.csv").write_text('id,caption,mood\n1,"slow piano, sad",blue\n2,fast drums,red\n')
    (tmp_path / "p.jsonl").write_text('{"text": "slow piano, sad"}\n\n{"text": "fast drums"}\n')
    for name in ("p.csv", "p.jsonl"):
        assert read_prompts(tmp_path / name) == ["slow piano, sad", "fast drums"]
    run(saved, "--prompts", tmp_path / "p.csv", "--prompt-column", "mood", "--seconds", 0.5, "--out", tmp_path / "out")
    assert sorted(file.stem for file in (tmp_path / "out").glob("*.wav")) == ["000_blue_seed0", "001_red_seed0"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.aiff", r"\.aiff is not written; give \.wav"),
        ("X.M4A", "is not written"),
        ("taken.wav", "is a folder"),
        (".wav", "a name before .wav"),
    ],
)
def test_an_out_that_cannot_be_a_sound_file_is_refused_before_the_work(saved, tmp_path, name, message):
    (tmp_path / "taken.wav").mkdir()
    with pytest.raises(ValueError, match=message):
        run(saved, "--prompt", "a", "--seconds", 0.5, "--overwrite", "--out", tmp_path / name)
    assert {file.name for file in tmp_path.iterdir()} == {"taken.wav", "pipeline"}


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        ("p.csv", "id,mood\n1,blue\n", None, "no column prompt or caption or text but id, mood"),
        ("p.csv", "caption\na\n", "mood", "no column 'mood' but caption"),
        ("p.csv", "caption,x\n ,1\n", None, "row 1 has no text in the column 'caption'"),
        ("p.csv", "id,caption\n1,calm\n2,slow, sad\n", None, r"row 2: 3 cells, but 2 columns .* is a quote missing"),
        ("p.csv", "caption,id,caption\na,1,b\n", None, "two columns are named 'caption'"),
        ("p.jsonl", '{"caption": 3}\n', None, "row 1 has no text"),
        ("p.jsonl", "[1]\n", None, "but none"),
        ("p.jsonl", "{\n", None, r"p\.jsonl: not a table of prompts \("),
        ("p.txt", "a\n", "caption", "only .csv and .jsonl have columns"),
    ],
)
def test_a_table_without_prompts_is_told_in_one_line(name, text, column, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name, column)
