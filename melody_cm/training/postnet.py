"""Post-nets of vocoders: linear magnitudes from real log-mels (Tacotron, arXiv 1703.10135, section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.autoencoders import PostNetVocoder
from melody_cm.batch import MusicBatch
from melody_cm.signal import MelFrontEnd, stft_magnitude
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage

COMPRESSION = 0.3  # Of magnitudes, about as loudness grows.


class PostNetTraining(Stage):
    """Trains a `PostNetVocoder` by the L1 distance of compressed magnitudes, |S|^0.3, from those of real music.

    Args:
        vocoder: learns.
    """

    def __init__(
        self,
        vocoder: PostNetVocoder,
        optimization: Optimization,
        ema_decay: float = 0.999,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        super().__init__({"vocoder": vocoder}, optimization, ema_decay, sample_rate, seed)
        self.mel = MelFrontEnd(vocoder.mel_settings)

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        waveform, settings = batch.need_waveform(), networks["vocoder"].mel_settings
        mel = self.mel(waveform)
        real = stft_magnitude(waveform[:, 0], settings.n_fft, settings.hop_length)[:, : mel.shape[1]]
        return {"magnitude": _distance(networks["vocoder"].magnitude(mel)[:, : real.shape[1]], real)}

    @torch.no_grad()
    def reconstruct(self, batch: MusicBatch) -> Tensor:
        """The clips of a batch (b, 1, t), from their mels by the averaged vocoder."""
        waveform = batch.need_waveform()
        return self.averaged["vocoder"](self.mel(waveform))[..., : waveform.shape[-1]]

    sample = reconstruct  # This is what there is to hear.


def _distance(first: Float[Tensor, "b l k"], second: Float[Tensor, "b l k"]) -> Float[Tensor, ""]:
    return (first.pow(COMPRESSION) - second.pow(COMPRESSION)).abs().mean()
