"""The short-time Fourier transform of waveforms and its inverse, with one rule for the edges."""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor


def stft(
    waveform: Float[Tensor, "b t"], n_fft: int, hop_length: int, window_length: int | None = None
) -> Complex[Tensor, "b l k"]:
    """The spectrum at k = n_fft / 2 + 1 frequencies with a periodic Hann window, in fp32 at least.

    Frame i is centred on sample i * hop_length, so there are l = t // hop_length + 1. Half a transform is added to both
    ends: the waveform reflected, or zeros where it is too short to be reflected.
    """
    window_length = window_length or n_fft
    waveform = waveform.to(torch.promote_types(waveform.dtype, torch.float32))
    margin = n_fft // 2
    padded = F.pad(waveform, (margin, margin), mode="reflect" if waveform.shape[-1] > margin else "constant")
    window = torch.hann_window(window_length, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(padded, n_fft, hop_length, window_length, window, center=False, return_complex=True)
    return spectrum.transpose(1, 2)


def stft_magnitude(
    waveform: Float[Tensor, "b t"], n_fft: int, hop_length: int, window_length: int | None = None
) -> Float[Tensor, "b l k"]:
    """The linear magnitude of `stft`."""
    return stft(waveform, n_fft, hop_length, window_length).abs()


def istft(spectrum: Complex[Tensor, "b l k"], hop_length: int, length: int) -> Float[Tensor, "b t"]:
    """The t = `length` samples whose `stft` is nearest to the spectrum; exact if it is the spectrum of a waveform."""
    n_fft = 2 * (spectrum.shape[-1] - 1)
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype, device=spectrum.device)
    return torch.istft(spectrum.transpose(1, 2), n_fft, hop_length, window=window, length=length)
