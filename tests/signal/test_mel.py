import librosa
import numpy as np
import pytest
import torch

from melody_cm.signal import MelFrontEnd, MelSettings, mel_filterbank

SETTINGS = MelSettings(16000, 1024, 160, 64, 0.0, 8000.0)


def music(samples: int, batch: int = 2) -> torch.Tensor:
    """A decaying chord with a little noise; rows differ in pitch."""
    time = torch.arange(samples) / 16000
    pitches = torch.tensor([220.0, 330.0, 1760.0]) * (1 + torch.arange(batch)[:, None] / 12)
    chord = torch.sin(2 * torch.pi * pitches[..., None] * time).sum(1) * torch.exp(-2 * time)
    return (0.2 * chord + 0.01 * torch.randn(batch, samples))[:, None]


def librosa_log_mel(waveform: np.ndarray, settings: MelSettings) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=settings.sample_rate, n_fft=settings.n_fft, hop_length=settings.hop_length,
        n_mels=settings.num_mels, fmin=settings.f_min, fmax=settings.f_max, power=1.0, pad_mode="reflect",
    )  # fmt: skip
    return np.log(np.maximum(mel, 1e-5)).T


@pytest.mark.parametrize("settings", [SETTINGS, MelSettings(24000, 512, 128, 32, 50.0, 11000.0)])
def test_log_mel_equals_librosa(settings):
    waveform = music(12800)
    waveform[1, :, 6000:] = 0.0  # down to the floor
    expected = [librosa_log_mel(row[0].numpy(), settings)[: 12800 // settings.hop_length] for row in waveform]
    torch.testing.assert_close(
        MelFrontEnd(settings)(waveform), torch.from_numpy(np.stack(expected)).float(), atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("samples", "frames"), [(1600, 10), (1601, 11), (1, 1), (160, 1), (40960, 256)])
def test_number_of_frames(samples, frames):
    assert MelFrontEnd(SETTINGS)(music(samples)).shape == (2, frames, 64)


def test_frame_i_is_centred_on_sample_i_times_hop():
    click = torch.zeros(1, 1, 3200)
    click[..., 1600] = 1.0
    assert MelFrontEnd(SETTINGS)(click).mean(-1).argmax() == 10


def test_autocast_does_not_coarsen_the_mel():
    front_end, waveform = MelFrontEnd(SETTINGS), music(3200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = front_end(waveform)
    assert torch.equal(mel, front_end(waveform))


def test_level_is_kept():
    waveform = music(3200)
    shift = MelFrontEnd(SETTINGS)(waveform) - MelFrontEnd(SETTINGS)(waveform / 2)
    torch.testing.assert_close(shift, torch.full_like(shift, np.log(2.0)), atol=1e-4, rtol=0)


def test_filterbank_is_shared_and_not_written_to_checkpoints():
    assert mel_filterbank(SETTINGS).shape == (64, 513)
    assert not MelFrontEnd(SETTINGS).state_dict()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="0-9000 Hz must lie within 0-8000"):
        MelSettings(16000, 1024, 160, 64, 0.0, 9000.0)
    with pytest.raises(ValueError, match="hop_length 600 must be 1 to 512"):
        MelSettings(16000, 1024, 600, 64, 0.0, 8000.0)


def test_differences_name_both_values():
    assert SETTINGS.differences(SETTINGS) == []
    assert SETTINGS.differences(MelSettings(16000, 1024, 160, 128, 0.0, 8000.0)) == ["num_mels: 64, 128"]
