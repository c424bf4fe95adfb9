import pytest
import torch
from encoded_toys import HOP, RATE, SECONDS, make_music, make_run

from melody_cm.data import ManifestCorpus, read_audio
from melody_cm.data.encoded import clip_audio
from melody_cm.data.encoded.clip_audio import ClipAudio
from melody_cm.data.encoded.encoding import ShardEncoding
from melody_cm.data.encoded.outputs import FrozenOutput
from melody_cm.data.encoded.windows import Crop, frame_windows, value_windows
from melody_cm.storage import FrozenAutoencoder

CROP = round(SECONDS * RATE)


@pytest.mark.parametrize("clip", [CROP + 1, 2 * CROP, 5 * CROP + 333, 100 * CROP])
@pytest.mark.parametrize("grid", [1, 80, 300])
def test_windows_keep_every_frame_once_and_hear_context(clip, grid):
    windows = frame_windows(clip, CROP, grid, RATE)
    assert [window.end for window in windows[:-1]] == [window.begin for window in windows[1:]]
    assert (windows[0].begin, windows[-1].end) == (0, clip)
    for window in windows:
        assert window.begin % grid == window.first % grid == 0
        assert window.first == 0 or window.begin - window.first >= CROP // 4
        assert window.last == clip or window.last - window.end >= CROP // 4
        assert window.last - window.first <= 3.5 * CROP + 4 * grid, "memory is bounded whatever the clip's length"


def test_a_clip_that_fits_into_a_crop_is_heard_as_a_crop():
    for clip in (1, CROP - 1, CROP):
        (window,) = frame_windows(clip, CROP, 80, RATE)
        assert (window.first, window.last) == (0, CROP)
        assert [w.first for w in value_windows(clip, CROP)] == [0]


def test_value_windows_begin_every_half_crop_and_the_last_ends_with_the_clip():
    assert [w.first for w in value_windows(25, 10)] == [0, 5, 10, 15]
    assert [w.first for w in value_windows(27, 10)] == [0, 5, 10, 15, 17]
    for start, nearest in ((0, 0), (2, 0), (3, 1), (12, 2), (13, 3), (16, 3), (17, 4)):
        assert Crop(start, 10, 27).nearest() == nearest


def test_a_crop_has_the_frames_of_its_samples():
    assert Crop(0, 100, 100).frames(16) == slice(0, 7)
    assert Crop(160, 100, 1000).frames(16) == slice(10, 17)


@pytest.fixture
def autoencoder(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(make_run(tmp_path / "run")))
    return FrozenAutoencoder("toy/1_autoencoder")


def encoded(autoencoder, clip):
    output = FrozenOutput("posterior", autoencoder, HOP)
    tensors, samples, bad = ShardEncoding([output], RATE, SECONDS, HOP, "cpu").encode("train", [clip], 7)
    return tensors[output.name], samples, bad


@pytest.mark.parametrize("seconds", [0.3, SECONDS, 0.7, 3.1234, 9.0])
@pytest.mark.parametrize("in_memory", [True, False])
def test_windows_give_what_encoding_the_whole_clip_gives(tmp_path, autoencoder, monkeypatch, seconds, in_memory):
    clip = ManifestCorpus(str(make_music(tmp_path / "music", [seconds]))).clips()[0]
    monkeypatch.setattr(clip_audio, "IN_MEMORY_SECONDS", 120.0 if in_memory else 0.0)
    tensors, samples, bad = encoded(autoencoder, clip)
    waveform = read_audio(clip.audio, 0.0, None, RATE)[None, None]
    assert (samples, bad) == ({7: waveform.shape[-1]}, {})
    padded = torch.nn.functional.pad(waveform, (0, max(0, CROP - waveform.shape[-1])))
    mean, std = autoencoder.posterior(padded)
    assert tensors["train.7.mean"].dtype == torch.float16
    torch.testing.assert_close(tensors["train.7.mean"], mean[0].half(), rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(tensors["train.7.std"], std[0].half(), rtol=2e-3, atol=1e-4)


def test_a_long_clip_is_read_part_by_part_and_its_silence_is_music(tmp_path, autoencoder, monkeypatch):
    import soundfile

    manifest = make_music(tmp_path / "music", [6.0])
    samples, _ = soundfile.read(tmp_path / "music/0.wav")
    samples[RATE : 4 * RATE] = 0
    soundfile.write(tmp_path / "music/0.wav", samples, RATE, subtype="FLOAT")
    monkeypatch.setattr(clip_audio, "IN_MEMORY_SECONDS", 1.0)
    longest = []

    def watched(path, start, seconds, rate):
        longest.append(seconds)
        return read_audio(path, start, seconds, rate)

    monkeypatch.setattr(clip_audio, "read_audio", watched)
    tensors, _, bad = encoded(autoencoder, ManifestCorpus(str(manifest)).clips()[0])
    assert not bad
    assert max(longest) < 2.0
    mean, _ = autoencoder.posterior(torch.from_numpy(samples).float()[None, None])
    torch.testing.assert_close(tensors["train.7.mean"], mean[0].half(), rtol=2e-3, atol=1e-4)
    soundfile.write(tmp_path / "music/0.wav", 0 * samples, RATE, subtype="FLOAT")
    assert "silent" in encoded(autoencoder, ManifestCorpus(str(manifest)).clips()[0])[2][7]


def test_numbers_that_are_not_finite_are_never_kept(tmp_path, autoencoder):
    clip = ManifestCorpus(str(make_music(tmp_path / "music", [0.4]))).clips()[0]
    autoencoder.network.second.bias[0] = float("nan")
    with pytest.raises(ValueError, match="toy/1_autoencoder/posterior gives numbers that are not finite"):
        encoded(autoencoder, clip)
    autoencoder.network.second.bias[0] = 1e6
    with pytest.raises(ValueError, match="not finite"):
        encoded(autoencoder, clip)


def test_an_encoder_with_other_frames_than_it_says_is_refused(tmp_path, autoencoder):
    clip = ManifestCorpus(str(make_music(tmp_path / "music", [0.4]))).clips()[0]
    output = FrozenOutput("posterior", autoencoder, 2 * HOP)
    with pytest.raises(ValueError, match="gives 256 frames for 4096 samples, not one every 32"):
        ShardEncoding([output], RATE, SECONDS, 2 * HOP, "cpu").encode("valid", [clip], 0)


def test_evaluation_clips_are_read_as_evaluation_crops(tmp_path, autoencoder):
    clip = ManifestCorpus(str(make_music(tmp_path / "music", [3.0]))).clips()[0]
    audio = ClipAudio(clip, RATE, SECONDS)
    assert audio.length == CROP
    assert torch.equal(audio.part(0, CROP)[0], read_audio(clip.audio, 0.0, SECONDS, RATE))
