"""`melody-cm generate` with prompts that change, loops and both kinds of windows."""

import json

import pytest
import soundfile
import torch
from long_toys import tiny_melody
from test_cli_generate import run
from toy_systems import toy_musiccm


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    toy_musiccm().save_pretrained(folder)
    return folder


def written(out, stem):
    samples = torch.from_numpy(soundfile.read(out / f"{stem}.wav", dtype="float32")[0])
    return samples, json.loads((out / f"{stem}.json").read_text())


def test_prompts_with_times_and_a_loop(saved, tmp_path):
    times = ("--prompt-at", "0:calm piano", "--prompt-at", "1.5: drums: enter")
    run(saved, "--seconds", 3, *times, "--loop", "--seed", 2, "--out", tmp_path / "out")
    samples, made = written(tmp_path / "out", "000_calm_piano_seed2")
    at = [(0, "calm piano"), (1.5, "drums: enter")]
    expected = toy_musiccm().generate(["calm piano"], 3.0, seed=2, prompt_at=at, loop=True).waveform[0, 0]
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-4)
    assert (made["prompt_at"], made["loop"]) == ([[0, "calm piano"], [1.5, "drums: enter"]], True)
    assert "windows" not in made


def test_a_prompt_holds_until_the_first_time_and_windows_may_be_independent(saved, tmp_path):
    words = ("--prompt", "calm", "--prompt", "slow", "--prompt-at", "2:drums", "--windows", "independent")
    run(saved, "--seconds", 3, *words, "--out", tmp_path / "out")
    samples, made = written(tmp_path / "out", "001_slow_seed0")
    expected = toy_musiccm().generate(["calm", "slow"], 3.0, prompt_at=[(2, "drums")], windows="independent").waveform
    torch.testing.assert_close(samples, expected[1, 0], rtol=0, atol=1e-4)
    assert (made["prompt_at"], made["windows"]) == ([[2, "drums"]], "independent")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt-at", "3:a"), r"'3:a' is beyond the 3 s"),
        (("--prompt-at", "1:a"), r"no prompt holds before 1 s; give --prompt, or --prompt-at 0:TEXT"),
        (("--prompt-at", "0:a", "--prompt-at", "2:b", "--prompt-at", "1:c"), r"'1:c' is not after 2 s"),
        (("--prompt-at", "0:a", "--prompt-at", "0:b"), "ascending"),
        (("--prompt-at", "calm piano"), "is not SECONDS:TEXT"),
        (("--prompt-at=-1:a",), "is not SECONDS:TEXT"),
        (("--prompt-at", "nan:a"), "is not SECONDS:TEXT"),
        (("--prompt-at", "1: "), "is not SECONDS:TEXT"),
        (("--prompt", "a", "--loop", "--windows", "independent"), "make no loop"),
        (("--prompt", "a", "--negative-prompt", "drums"), "a negative prompt has nothing to act on"),
        (("--prompt", "a", "--loop", "--continue-from", "GIVEN"), "leave --prompt-at, --loop and --windows out"),
    ],
)
def test_wrong_arrangements_are_refused_before_the_pipeline_is_loaded(tmp_path, monkeypatch, words, message):
    monkeypatch.setattr("melody_cm.pipelines.PretrainedPipeline.from_pretrained", None)
    words = [tmp_path / "given.wav" if word == "GIVEN" else word for word in words]
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path, "--seconds", 3, *words, "--out", tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words", [("--prompt-at", "0:a"), ("--prompt", "a", "--loop"), ("--prompt", "a", "--windows", "independent")]
)
def test_a_system_that_cannot_says_which_can(tmp_path, words):
    tiny_melody().save_pretrained(tmp_path / "melody")
    with pytest.raises(ValueError, match=r"MeLoDy takes no prompt_at, loop or windows: .*MusicCM does"):
        run(tmp_path / "melody", "--seconds", 3, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_loop_that_does_not_fit_writes_nothing(saved, tmp_path):
    with pytest.raises(ValueError, match=r"ask for 2 or 2\.01 s"):
        run(saved, "--prompt", "a", "--seconds", 2.005, "--loop", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
