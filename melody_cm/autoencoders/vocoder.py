"""Vocoders, log-mel -> waveform, for the mel autoencoder (MusicCM, arXiv 2404.13358, section 4.1)."""

from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import Vocoder
from melody_cm.signal import MelSettings, mel_to_waveform


class GriffinLim(Vocoder):
    """No training, no weights: phases by Griffin-Lim. Deterministic.

    Every vocoder says which mels it understands by `mel_settings`.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples.
        num_mels: bins f.
        f_min, f_max: Hz.
        iterations: more sound cleaner; 16 cost about 30 ms for 2.56 s on one core, 32 twice that.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        iterations: int = 32,
    ) -> None:
        super().__init__()
        self.mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        self.sample_rate = sample_rate
        self.iterations = iterations

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        return mel_to_waveform(mel, self.mel_settings, self.iterations)
