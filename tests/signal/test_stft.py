import librosa
import numpy as np
import pytest
import torch

from melody_cm.signal import istft, stft, stft_magnitude


@pytest.mark.parametrize(("n_fft", "hop_length", "window_length"), [(512, 128, 256), (64, 16, 64), (2048, 512, 1024)])
def test_magnitude_equals_librosa(n_fft, hop_length, window_length):
    waveform = torch.randn(1, 5000)
    expected = np.abs(
        librosa.stft(
            waveform[0].numpy(), n_fft=n_fft, hop_length=hop_length, win_length=window_length, pad_mode="reflect"
        )
    )
    magnitude = stft_magnitude(waveform, n_fft, hop_length, window_length)
    torch.testing.assert_close(magnitude[0].T, torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:n_fft=512 is too large")
def test_a_waveform_too_short_to_reflect_is_surrounded_by_zeros():
    waveform = torch.randn(1, 100)
    expected = np.abs(librosa.stft(waveform[0].numpy(), n_fft=512, hop_length=128, pad_mode="constant"))
    magnitude = stft_magnitude(waveform, 512, 128)[0].T
    torch.testing.assert_close(magnitude, torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [100, 4000, 4096])
def test_istft_inverts_stft(length):
    waveform = torch.randn(2, length)
    torch.testing.assert_close(istft(stft(waveform, 256, 64), 64, length), waveform, atol=1e-5, rtol=1e-4)


def test_half_precision_is_computed_in_fp32():
    assert stft_magnitude(torch.randn(1, 1000).bfloat16(), 256, 64).dtype == torch.float32
    assert stft_magnitude(torch.randn(1, 1000).double(), 256, 64).dtype == torch.float64
