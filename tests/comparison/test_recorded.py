"""Music that somebody else made: which file is whose, and what is refused."""

import json

import pytest
import soundfile
import torch
from toy_systems import ToyEmbedding

from melody_cm.comparison import System, compare
from melody_cm.comparison.baselines import RecordedMusic, open_baseline
from melody_cm.data import AudioProblem

RATE = 8000
PROMPTS = ["calm piano", "loud drums", "slow strings"]


def tone(pitch, seconds=1.0, rate=RATE):
    return 0.1 * torch.sin(2 * torch.pi * pitch * torch.arange(round(seconds * rate)) / rate).numpy()


def write(folder, sounds, named=()):
    """Sounds by stem; those in `named` get a JSON with their prompt, as `melody-cm generate` writes it."""
    for stem, sound in sounds.items():
        soundfile.write(folder / f"{stem}.wav", sound, RATE, subtype="FLOAT")
    for stem, prompt in dict(named).items():
        (folder / f"{stem}.json").write_text(json.dumps({"prompt": prompt, "seed": 3, "num_steps": 20}))
    return folder


def assert_plays(music, prompt, expected):
    torch.testing.assert_close(
        music.generate([prompt], 0.5).waveform[0, 0], torch.from_numpy(expected[: RATE // 2]).float(), rtol=0, atol=1e-6
    )


SOUNDS = {"a": tone(100), "b": tone(200), "c": tone(300)}


def test_without_json_files_the_order_of_names_decides(tmp_path):
    music = open_baseline(f"folder:{write(tmp_path, SOUNDS)}", PROMPTS)
    assert (music.sample_rate, music.max_seconds, music.recorded) == (RATE, 1.0, True)
    for prompt, stem in zip(PROMPTS, "abc", strict=True):
        assert_plays(music, prompt, SOUNDS[stem])
    audio = music.generate(PROMPTS[1:], 0.5, [0, 0])
    assert audio.waveform.shape == (2, 1, RATE // 2)
    assert audio.timings == {}


def test_json_files_say_whose_clip_it_is_whatever_their_order_and_beside_others(tmp_path):
    named = {"a": PROMPTS[2], "b": "another prompt", "c": PROMPTS[0]}
    write(tmp_path, {**SOUNDS, "d": tone(400, 0.01)}, named)
    for music in (RecordedMusic(tmp_path), RecordedMusic(tmp_path, [PROMPTS[0], PROMPTS[2]])):
        assert_plays(music, PROMPTS[0], SOUNDS["c"])
        assert_plays(music, PROMPTS[2], SOUNDS["a"])
    with pytest.raises(ValueError, match=r"no clip of the prompt 'loud drums' \(1 missing\)"):
        RecordedMusic(tmp_path, PROMPTS)
    with pytest.raises(ValueError, match="no clip of the prompt 'loud drums'; make one"):
        RecordedMusic(tmp_path).generate(["loud drums"], 0.5)


def test_one_clip_a_prompt_is_compared_with_one_seed(tmp_path):
    music = RecordedMusic(write(tmp_path, SOUNDS), PROMPTS)
    music.generate(PROMPTS[:2], 0.5, [7, 8])
    for seeds, null in (([0, 1], False), ([0], True)):
        with pytest.raises(ValueError, match="somebody has one clip a prompt; compare it with a single seed"):
            compare({"somebody": System(music, [1], null)}, PROMPTS, seeds, 0.5, [], [ToyEmbedding()], tmp_path / "out")


def test_what_is_made_already_has_no_steps(tmp_path):
    music = RecordedMusic(write(tmp_path, SOUNDS), PROMPTS)
    assert music.generate(PROMPTS[:1], 0.5, num_steps=1).waveform.std() > 0
    with pytest.raises(ValueError, match="num_steps 4"):
        music.generate(PROMPTS[:1], 0.5, num_steps=4)
    with pytest.raises(ValueError, match=r"guidance_scale 2\.0"):
        music.generate(PROMPTS[:1], 0.5, guidance_scale=2.0)


def test_identity_is_the_content(tmp_path):
    before = RecordedMusic(write(tmp_path, SOUNDS), PROMPTS).identity()
    assert RecordedMusic(tmp_path, PROMPTS).identity() == before
    write(tmp_path, {"b": tone(201)})
    after = RecordedMusic(tmp_path, PROMPTS).identity()
    assert {prompt for prompt in PROMPTS if before["clips"][prompt] != after["clips"][prompt]} == {"loud drums"}


@pytest.mark.parametrize(
    ("sounds", "prompts", "message"),
    [
        ({}, PROMPTS, "no sound files"),
        (SOUNDS, PROMPTS[:2], "3 clips without JSON files .* prompts is 2"),
        (SOUNDS, None, "prompts is unknown"),
    ],
)
def test_unfit_folders_are_refused(tmp_path, sounds, prompts, message):
    with pytest.raises(ValueError, match=message):
        RecordedMusic(write(tmp_path, sounds), prompts)


def test_several_clips_of_a_prompt_are_refused(tmp_path):
    write(tmp_path, SOUNDS, {"a": PROMPTS[0], "b": PROMPTS[0]})
    with pytest.raises(ValueError, match="several clips of the prompt 'calm piano'"):
        RecordedMusic(tmp_path)


def test_unlike_rates_are_refused(tmp_path):
    write(tmp_path, {"a": SOUNDS["a"]})
    soundfile.write(tmp_path / "b.wav", tone(200, rate=16000), 16000)
    with pytest.raises(ValueError, match=r"\[8000, 16000\] Hz"):
        RecordedMusic(tmp_path, PROMPTS[:2])


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (tone(100, 0.3), r"a\.wav: 0\.3 s long, but 0\.5 s"),
        (0 * tone(100), "silent"),
        (tone(100) * float("nan"), "NaN"),
    ],
    ids=["short", "silent", "nan"],
)
def test_a_clip_that_is_no_music_is_named(tmp_path, sound, message):
    music = RecordedMusic(write(tmp_path, {**SOUNDS, "a": sound}), PROMPTS)
    with pytest.raises(AudioProblem, match=message):
        music.generate(PROMPTS[:1], 0.5)


def test_an_unreadable_file_is_named_at_once(tmp_path):
    (write(tmp_path, SOUNDS) / "b.wav").write_bytes(b"no sound")
    with pytest.raises(AudioProblem, match=r"b\.wav"):
        RecordedMusic(tmp_path, PROMPTS)


def test_clips_in_subfolders_count_and_hidden_ones_do_not(tmp_path):
    (tmp_path / "first").mkdir()
    write(tmp_path / "first", {"0": SOUNDS["a"], "._0": SOUNDS["b"]})
    write(tmp_path, {"1": SOUNDS["b"], "2": SOUNDS["c"]})
    music = RecordedMusic(tmp_path, PROMPTS)
    assert [file.name for file in music.files.values()] == ["0.wav", "1.wav", "2.wav"]
    write(tmp_path, {"bonus": SOUNDS["a"]})
    with pytest.raises(ValueError, match="numbers do not tell whose prompt this is"):
        RecordedMusic(tmp_path, [*PROMPTS, "odd bass"])
