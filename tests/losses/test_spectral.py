import librosa
import numpy as np
import pytest
import torch

from melody_cm.losses import LogMelLoss, MultiResolutionSTFTLoss


def test_multi_resolution_stft_equals_a_librosa_loop():
    loss = MultiResolutionSTFTLoss([512, 128], [256, 128], [64, 32], 50.0, waveform_l1_weight=3.0, log_weight=7.0)
    prediction, target = torch.randn(2, 2, 1, 4000)
    prediction[..., 2000:] *= 1e-4  # Where the floor counts.
    target[..., 2000:] = 0
    linear, logarithmic = 0.0, 0.0
    for n_fft, window_length, hop_length in ((512, 256, 64), (128, 128, 32)):
        spectra = [
            np.abs(librosa.stft(x[:, 0].numpy(), n_fft=n_fft, win_length=window_length, hop_length=hop_length,
                                pad_mode="reflect"))
            for x in (prediction, target)
        ]  # fmt: skip
        linear += np.abs(spectra[0] - spectra[1]).mean()
        logarithmic += np.abs(np.log((spectra[0] + 0.001) / (spectra[1] + 0.001))).mean()
    terms = loss(prediction, target)
    assert terms["stft"].item() == pytest.approx(50 * linear, rel=1e-4)
    assert terms["log_stft"].item() == pytest.approx(7 * logarithmic, rel=1e-4)
    assert terms["waveform_l1"].item() == pytest.approx(3 * (prediction - target).abs().mean().item(), rel=1e-5)


def test_equal_waveforms_cost_nothing_and_give_finite_gradients():
    silence = torch.zeros(1, 1, 2000, requires_grad=True)
    assert list(MultiResolutionSTFTLoss([256], [256], [64])(silence, silence)) == ["stft"]
    terms = MultiResolutionSTFTLoss([256], [256], [64], log_weight=1.0)(silence, torch.zeros(1, 1, 2000))
    assert [term.item() for term in terms.values()] == [0, 0]
    sum(terms.values()).backward()
    assert silence.grad.isfinite().all()


def test_magnitudes_are_blind_to_sign_and_the_waveform_term_is_not():
    waveform = torch.randn(1, 1, 2000)
    terms = MultiResolutionSTFTLoss([256], [256], [64], waveform_l1_weight=1.0)(-waveform, waveform)
    assert terms["stft"].item() < 1e-4
    assert terms["waveform_l1"].item() > 1


def test_impossible_resolutions_are_refused():
    with pytest.raises(ValueError, match="2 fft_sizes, 1 window_lengths"):
        MultiResolutionSTFTLoss([512, 128], [256], [64, 32])
    with pytest.raises(ValueError, match="window_length 1024 exceeds its fft_size 512"):
        MultiResolutionSTFTLoss([512], [1024], [64])


def slope_by_hand(x: np.ndarray, y: np.ndarray, scale: int) -> float:
    def pooled(mel):
        frames, bins = (size // scale * scale for size in mel.shape)
        return mel[:frames, :bins].reshape(frames // scale, scale, bins // scale, scale).mean((1, 3))

    x, y = pooled(x), pooled(y)
    return sum(np.abs(np.diff(x, axis=axis) - np.diff(y, axis=axis)).mean() for axis in (0, 1))


def test_log_mel_loss_equals_numpy():
    prediction, target = torch.randn(2, 1, 21, 16)
    terms = LogMelLoss(weight=2.0, gradient_weight=3.0, scales=[1, 2, 4])(prediction, target)
    x, y = prediction[0].numpy(), target[0].numpy()
    assert terms["mel_l1"].item() == pytest.approx(2 * np.abs(x - y).mean(), rel=1e-5)
    slope = np.mean([slope_by_hand(x, y, scale) for scale in (1, 2, 4)])
    assert terms["mel_gradient"].item() == pytest.approx(3 * slope, rel=1e-4)


def test_a_constant_offset_has_no_slope():
    mel = torch.randn(1, 20, 16)
    terms = LogMelLoss()(mel + 1, mel)
    assert terms["mel_l1"].item() == pytest.approx(1.0, rel=1e-5)
    assert terms["mel_gradient"].item() < 1e-6
    assert list(LogMelLoss(gradient_weight=0.0)(mel, mel)) == ["mel_l1"]
