import numpy as np
import pytest
import scipy.signal
import torch

from melody_cm.autoencoders import ISTFTVocoder

MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}


def tiny(**changes) -> ISTFTVocoder:
    return ISTFTVocoder(**(MEL | {"width": 24, "hidden_width": 48, "num_blocks": 2} | changes)).eval()


@pytest.mark.parametrize("frames", [1, 2, 33])
def test_a_frame_is_hop_length_samples(frames):
    assert tiny()(torch.randn(2, frames, 16)).shape == (2, 1, 80 * frames)


@torch.no_grad()
def test_the_last_layers_numbers_are_log_magnitudes_and_phases_of_the_frames():
    """A waveform whose spectrum by SciPy is put into the last layer comes out again."""
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(80 * 40) * 0.1
    padded = np.pad(waveform, 128, mode="reflect")
    window = scipy.signal.get_window("hann", 256)
    frames = np.stack([np.fft.rfft(window * padded[80 * i : 80 * i + 256]) for i in range(40)])
    wanted = np.concatenate([np.log(np.abs(frames)), np.angle(frames)], axis=1)
    vocoder = tiny()
    vocoder.output.register_forward_hook(lambda *_: torch.tensor(wanted)[None])
    made = vocoder(torch.randn(1, 40, 16))[0, 0].numpy()
    np.testing.assert_allclose(made[: 80 * 38], waveform[: 80 * 38], atol=1e-5)


@torch.no_grad()
def test_magnitudes_have_a_ceiling():
    vocoder = tiny()
    vocoder.output.bias[:129] = 200.0
    assert torch.isfinite(vocoder(torch.randn(1, 9, 16))).all()


@torch.no_grad()
def test_a_sample_depends_on_the_frames_around_it_alone():
    vocoder, mel = tiny(), torch.randn(1, 60, 16)
    before = vocoder(mel)
    mel[:, 30] += 1
    changed = (vocoder(mel) - before)[0, 0].abs() > 1e-7
    reach = 3 * 3 * 80 + 128  # Three convolutions of 7 frames, and half a transform.
    assert changed.any()
    assert not changed[: 30 * 80 - reach].any()
    assert not changed[30 * 80 + reach :].any()


def test_mels_of_another_level_are_scaled_first():
    vocoder, mel = tiny(mel_mean=1.0, mel_std=2.0), torch.randn(1, 5, 16)
    plain = tiny(mel_mean=0.0, mel_std=1.0)
    plain.load_state_dict(vocoder.state_dict())
    torch.testing.assert_close(vocoder(mel), plain((mel - 1) / 2))


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel 4 must be odd"):
        tiny(kernel=4)
