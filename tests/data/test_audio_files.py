import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import butter, lfilter

from melody_cm.data import AudioProblem, audio_info, read_audio, write_audio

# suffix, container, codec, sample rate, allowed difference between seeking and decoding from the beginning
FORMATS = [
    (".wav", "WAV", "PCM_24", 44100, 0.0),
    (".flac", "FLAC", "PCM_16", 44100, 0.0),
    (".ogg", "OGG", "VORBIS", 44100, 0.0),
    (".opus", "OGG", "OPUS", 24000, 2e-3),
    (".opus", "OGG", "OPUS", 48000, 2e-3),
    (".mp3", "MP3", "MPEG_LAYER_III", 44100, 1e-5),
]


def noise(rate, seconds=10.0):
    white = np.random.default_rng(0).standard_normal(round(rate * seconds))
    return 0.1 * lfilter(*butter(2, 0.2), white)


@pytest.mark.parametrize(("suffix", "container", "codec", "rate", "tolerance"), FORMATS)
def test_seeking_gives_what_decoding_everything_gives(tmp_path, suffix, container, codec, rate, tolerance):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(rate), rate, format=container, subtype=codec)
    whole, _ = soundfile.read(path, dtype="float32")
    for start in (0.0, 0.5, 1.2341, 3.3, 7.77, 9.4):
        crop = read_audio(path, start, 0.5, rate)
        first = round(start * rate)
        assert crop.shape == (rate // 2,)
        assert np.abs(crop.numpy() - whole[first : first + rate // 2]).max() <= tolerance


@pytest.mark.parametrize(("source", "target"), [(44100, 24000), (48000, 16000), (22050, 24000), (16000, 44100)])
def test_a_resampled_crop_lies_where_it_should(tmp_path, source, target):
    path = tmp_path / "sine.wav"
    time = np.arange(6 * source) / source
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440.3 * time), source, subtype="FLOAT")
    for start in (0.0, 0.01, 1.2345, 3.9):
        crop = read_audio(path, start, 1.5, target)
        expected_time = (round(start * target) + np.arange(round(1.5 * target))) / target
        expected = 0.5 * np.sin(2 * np.pi * 440.3 * expected_time)
        edge = 0 if start > 0.1 else 200
        assert crop.shape == expected.shape
        assert np.abs(crop.numpy() - expected)[edge:].max() < 1e-3


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_lengths_are_exact(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(rate, 4.0), rate)
    assert len(read_audio(path, 0.0, None, 24000)) == 96000
    assert len(read_audio(path, 0.0, 4.0, 24000)) == 96000
    assert len(read_audio(path, 0.777, 2.56, 16000)) == 40960
    assert abs(len(read_audio(path, 3.5, 2.0, 16000)) - 8000) <= 1


def test_channels_are_averaged_and_samples_stay_in_range(tmp_path):
    path = tmp_path / "a.wav"
    left, right = np.full(8000, 0.5), np.linspace(-3, 3, 8000)
    soundfile.write(path, np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    crop = read_audio(path, 0.0, 1.0, 8000)
    assert torch.allclose(crop, torch.from_numpy(((left + right) / 2).clip(-1, 1)).float())
    assert audio_info(path) == (8000, 2, 1.0)


def broken(tmp_path, name):
    path = tmp_path / f"{name}.wav"
    sound = noise(8000, 1.0)
    if name == "nan":
        sound[4000] = np.nan
    if name == "infinite":
        sound[4000] = np.inf
    if name == "silent":
        sound[:] = 0
    if name == "too short":
        sound = sound[:100]
    soundfile.write(path, sound, 8000, subtype="FLOAT")
    if name == "empty":
        path.write_bytes(b"")
    if name == "not a readable":
        path.write_bytes(b"this is no sound" * 100)
    if name == "no such file":
        path.unlink()
    return path


@pytest.mark.parametrize("name", ["nan", "infinite", "silent", "too short", "empty", "not a readable", "no such file"])
def test_bad_files_are_audio_problems_that_name_the_file(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(AudioProblem, match=name) as problem:
        read_audio(path, 0.25, 0.5, 8000)
    assert str(problem.value).startswith(str(path))


def test_a_name_too_long_for_the_file_system_is_a_file_that_is_missing(tmp_path):
    with pytest.raises(AudioProblem, match="no such file"):
        read_audio(tmp_path / ("x" * 5000 + ".wav"), 0.0, 0.5, 8000)


def test_a_file_cut_off_in_the_middle_is_a_problem(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(24000, 5.0), 24000)
    path.write_bytes(path.read_bytes()[:60000])
    assert len(read_audio(path, 0.0, 0.5, 24000)) == 12000
    with pytest.raises(AudioProblem, match=r"truncated|unreadable"):
        read_audio(path, 3.0, 1.0, 24000)


def test_a_start_behind_the_end_is_too_short(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(8000, 1.0), 8000)
    with pytest.raises(AudioProblem, match="too short"):
        read_audio(path, 2.0, 0.5, 8000)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_written_files_come_back(tmp_path, suffix):
    waveform = torch.from_numpy(noise(24000, 1.0)).float()
    waveform[0], waveform[1] = 2.0, -2.0
    path = tmp_path / f"a{suffix}"
    write_audio(path, waveform[None], 24000)
    back, rate = soundfile.read(path, dtype="float32")
    assert rate == 24000
    assert soundfile.info(path).subtype == "PCM_16"
    assert np.abs(back - waveform.clamp(-1, 1).numpy()).max() < 2**-14
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_unwritable_names_and_stereo_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mp3"):
        write_audio(tmp_path / "a.mp3", torch.zeros(10), 8000)
    with pytest.raises(ValueError, match="mono"):
        write_audio(tmp_path / "a.wav", torch.zeros(2, 10), 8000)
