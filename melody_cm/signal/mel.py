"""Log-mel spectrograms as AudioLDM and MusicLDM define them (MusicCM, arXiv 2404.13358, section 4.1).

Natural logarithm of the mel-weighted *magnitudes*, floored at 1e-5, with librosa's area-normalized ("slaney") filters.
"""

import dataclasses
from functools import lru_cache

import librosa
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.placement import in_fp32
from melody_cm.signal.frames import pad_to_multiple
from melody_cm.signal.stft import stft_magnitude

MEL_FLOOR = 1e-5


@dataclasses.dataclass(frozen=True)
class MelSettings:
    """What defines a log-mel spectrogram: two parts that exchange mels must agree on all of it.

    Attributes:
        sample_rate: Hz.
        n_fft: transform and window length, samples.
        hop_length: samples between frames.
        num_mels: bins f.
        f_min, f_max: Hz, the range of the filters.

    Raises:
        ValueError: a range that is empty or beyond half the sample rate, or a hop longer than half the window.
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    num_mels: int
    f_min: float
    f_max: float

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"mel range {self.f_min:g}-{self.f_max:g} Hz must lie within 0-{self.sample_rate / 2:g} Hz, half of "
                f"the sample rate {self.sample_rate}; lower f_max"
            )
        if not 0 < self.hop_length <= self.n_fft // 2:
            raise ValueError(
                f"hop_length {self.hop_length} must be 1 to {self.n_fft // 2} samples, half of n_fft {self.n_fft}"
            )

    def differences(self, other: "MelSettings") -> list[str]:
        """The settings that differ, as "name: mine, theirs"."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name}: {mine[name]}, {theirs[name]}" for name in mine if mine[name] != theirs[name]]


@lru_cache(maxsize=8)
def mel_filterbank(settings: MelSettings) -> Float[Tensor, "f k"]:
    """The weight of each STFT bin in each mel bin, fp32. Do not write to it: it is shared by all callers."""
    return torch.from_numpy(
        librosa.filters.mel(
            sr=settings.sample_rate,
            n_fft=settings.n_fft,
            n_mels=settings.num_mels,
            fmin=settings.f_min,
            fmax=settings.f_max,
            htk=False,
            norm="slaney",
        )
    )


class MelFrontEnd(nn.Module):
    """Waveform -> log-mel.

    Frame i is centred on sample i * hop_length, and a waveform of t samples has l = ceil(t / hop_length) frames: the
    one that would be centred on the very end is left out. Levels are kept as they are: nothing is normalized.
    """

    filterbank: Tensor

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("filterbank", mel_filterbank(settings).clone(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        settings = self.settings
        padded = pad_to_multiple(waveform[:, 0], settings.hop_length)
        num_frames = padded.shape[-1] // settings.hop_length
        # Half precision would be coarser than the quiet bins, which the logarithm blows up.
        with in_fp32(waveform.device):
            magnitude = stft_magnitude(padded, settings.n_fft, settings.hop_length)[:, :num_frames]
            mel = F.linear(magnitude, self.filterbank.to(magnitude.dtype))
            return mel.clamp(min=MEL_FLOOR).log()
