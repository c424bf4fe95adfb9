"""A pipeline tells each of its denoising steps, and makes the same music while it does."""

import torch
from long_toys import tiny_melody
from toy_systems import toy_melody, toy_musiccm


def told(pipeline, *arguments, **settings):
    steps = []
    audio = pipeline(*arguments, **settings, progress=lambda step, num_steps: steps.append((step, num_steps)))
    assert torch.equal(audio.waveform, pipeline(*arguments, **settings).waveform)
    return steps


def test_a_function_is_called_after_each_step():
    assert told(toy_melody(), ["a", "b"], 0.5, num_steps=3) == [(1, 3), (2, 3), (3, 3)]
    assert told(toy_musiccm(), "a", 0.5, num_steps=2) == [(1, 2), (2, 2)]


def test_each_new_piece_of_long_music_begins_anew():
    assert told(toy_musiccm(), "a", 2.5, num_steps=2) == [(1, 2), (2, 2)] * 2, "four windows, two at a time"
    pieces = told(tiny_melody(), "a", 5.0, num_steps=2)
    assert len(pieces) > 2
    assert pieces == [(1, 2), (2, 2)] * (len(pieces) // 2)


def test_a_bar_shows_the_steps(capsys):
    toy_musiccm()("a", 0.5, num_steps=2, progress=True)
    assert "denoising steps" in capsys.readouterr().err
    toy_musiccm()("a", 0.5, num_steps=2)
    assert capsys.readouterr().err == ""
