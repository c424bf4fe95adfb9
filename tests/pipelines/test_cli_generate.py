"""`melody-cm generate` on a saved toy pipeline."""

import argparse
import json
from importlib.metadata import version

import pytest
import soundfile
import torch
from toy_systems import SAMPLE_RATE, toy_melody, toy_musiccm

from melody_cm.cli import generate as verb


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
    stems = ["000_a_calm_piano", "001_fast_drums", "002_slow_strings_no_drums"]
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
    made = json.loads((tmp_path / "out" / "001_b.json").read_text())
    expected = {"prompt": "b", "clip_index": 1, "seed": 4, "num_steps": 3, "guidance_scale": 2.5, "system": "MeLoDy"}
    assert {key: made[key] for key in expected} == expected
    assert made["weights"] == toy_melody().weight_hashes()
    assert made["sample_rate"] == SAMPLE_RATE
    assert set(made["timings"]) == {"planner", "denoiser", "decoder"}
    assert made["versions"]["torch"] == version("torch")


def test_a_prompt_without_latin_letters_still_has_a_file(saved, tmp_path):
    run(saved, "--prompt", "静かなピアノ", "--seconds", 0.5, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "000.wav").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seconds", 99, "--prompt", "a"), "at most 1 seconds"),
        (("--seconds", 0.5), "there is no prompt"),
        (("--seconds", 0.5, "--prompts", "nowhere.txt"), r"no file nowhere\.txt"),
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
