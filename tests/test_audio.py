"""Clips as a user has them: saved, played, computed with."""

import base64
import re

import numpy as np
import pytest
import soundfile
import torch
from toy_systems import toy_musiccm

import melody_cm
from melody_cm.audio import GeneratedAudio

RATE = 16000


@pytest.fixture
def chord():
    """Two clips of a second: 440 Hz and 880 Hz."""
    time = torch.arange(RATE) / RATE
    clips = torch.stack([0.5 * (2 * torch.pi * hertz * time).sin() for hertz in (440, 880)])
    return GeneratedAudio(clips[:, None], RATE, {"decoder": 0.1}, prompts=["low <a>", "high"])


@pytest.mark.parametrize(("suffix", "error"), [(".wav", 5e-5), (".FLAC", 5e-5), (".ogg", 0.05), (".mp3", 0.05)])
def test_what_is_saved_is_what_is_read(suffix, error, chord, tmp_path):
    path = chord[1].save(tmp_path / f"clip{suffix}")
    samples, rate = soundfile.read(path)
    assert rate == RATE
    middle = slice(RATE // 4, RATE * 3 // 4)
    spectrum = np.abs(np.fft.rfft(samples[middle]))
    assert spectrum.argmax() * RATE / len(samples[middle]) == 880
    if error < 1e-3:
        assert np.abs(samples - chord[1].numpy()).max() < error
    else:  # A codec may shift by some samples: power alone.
        assert np.sqrt(np.mean(samples[middle] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=error)


def test_one_file_holds_one_clip_of_a_known_format(chord, tmp_path):
    with pytest.raises(ValueError, match=r"2 clips do not fit into one file; save each: audio\[0\].save\('a.wav'\)"):
        chord.save(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"saved as .wav, .flac, .ogg, .mp3"):
        chord[0].save(tmp_path / "a.aiff")


def test_clips_are_indexed_and_counted(chord):
    assert (len(chord), chord.seconds, chord.numpy().shape) == (2, 1.0, (2, RATE))
    assert [clip.prompts[0] for clip in chord] == ["low <a>", "high"]
    assert np.array_equal(chord[-1].numpy(), chord.numpy()[1])
    assert chord[0].numpy().shape == (RATE,)
    with pytest.raises(IndexError):
        chord[2]
    assert repr(chord) == "GeneratedAudio(2 clips of 1.00 s at 16000 Hz)"


def test_a_notebook_shows_a_player_and_the_text_of_each_clip(chord, tmp_path):
    page = chord._repr_html_()
    assert "low &lt;a&gt;" in page
    data = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    assert len(data) == 2
    (tmp_path / "clip.wav").write_bytes(base64.b64decode(data[1]))
    assert np.abs(soundfile.read(tmp_path / "clip.wav")[0] - chord[1].numpy()).max() < 5e-5


def test_a_pipeline_takes_a_text_says_what_it_is_and_is_loaded_on_a_device(tmp_path):
    toy_musiccm().save_pretrained(tmp_path / "toy")
    pipeline = melody_cm.load(tmp_path / "toy", device="cpu", dtype="bf16")
    assert re.fullmatch(r"MusicCM\(\d\.\d M parameters, \d+ Hz, trained on \S+ s, \d steps, on cpu\)", repr(pipeline))
    audio = pipeline("a calm piano", seconds=0.5, seed=3)
    assert audio.prompts == ["a calm piano"]
    assert torch.equal(audio.waveform, pipeline(["a calm piano"], 0.5, seed=3).waveform)
    assert pipeline.placement.precision == "bf16"
    assert isinstance(pipeline, melody_cm.MusicCM)
    with pytest.raises(ValueError, match="there is no device 'cuda:77' here"):
        melody_cm.load(tmp_path / "toy", device="cuda:77")


def test_a_pipeline_goes_to_a_repository_of_the_hub(monkeypatch, tmp_path):
    """As the hub's client is called: no network is here."""
    seen = {}

    class Hub:
        def create_repo(self, repository, private, exist_ok):
            seen["made"] = (repository, private, exist_ok)

        def upload_folder(self, repo_id, folder_path, commit_message):
            seen["loaded"] = repr(melody_cm.load(folder_path, "cpu"))
            return type("Commit", (), {"commit_url": f"hub/{repo_id}"})

    monkeypatch.setattr("melody_cm.pipelines.pretrained.HfApi", Hub)
    pipeline = toy_musiccm()
    assert pipeline.push_to_hub("me/music", private=True) == "hub/me/music"
    assert seen == {"made": ("me/music", True, True), "loaded": repr(pipeline)}
    with pytest.raises(ValueError, match="give owner/name"):
        pipeline.push_to_hub("music")
