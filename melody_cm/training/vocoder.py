"""Vocoders: real log-mels back to their waveforms, against discriminators (HiFi-GAN, arXiv 2010.05646, section 2).

Their post-nets learn linear magnitudes instead (Tacotron, arXiv 1703.10135, section 3.3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from melody_cm.autoencoders import PostNetVocoder
from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Vocoder
from melody_cm.signal import MelFrontEnd, stft_magnitude
from melody_cm.training.adversarial import AdversarialStage, Adversary, Generated
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage

COMPRESSION = 0.3  # Of magnitudes, about as loudness grows.


class FromMels:
    """What stages share whose averaged vocoder is to make music of its mels, which `mel` takes of it."""

    mel: MelFrontEnd

    @torch.no_grad()
    def reconstruct(self, batch: MusicBatch) -> Tensor:
        """The clips of a batch (b, 1, t), from their mels by the averaged vocoder."""
        waveform = batch.need_waveform()
        return self.averaged["vocoder"](self.mel(waveform))[..., : waveform.shape[-1]]

    sample = reconstruct  # This is what there is to hear.


class VocoderTraining(FromMels, AdversarialStage):
    """Trains a vocoder on the mels of real music, as its own `mel_settings` define them.

    Args:
        vocoder: learns.
        mel_weight: of the L1 distance between the log-mels of what it makes and of the music.
        adversary, gradient_clip, accumulate: as in `AdversarialStage`.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        optimization: Optimization,
        mel_weight: float = 45.0,
        adversary: Adversary | None = None,
        gradient_clip: float = 10.0,
        accumulate: int = 1,
        ema_decay: float = 0.999,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        trained = {"vocoder": vocoder}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed, adversary, gradient_clip, accumulate)
        self.mel = MelFrontEnd(vocoder.mel_settings)
        self.mel_weight = mel_weight

    def generate(self, networks: Networks, batch: MusicBatch) -> Generated:
        real = batch.need_waveform()
        mel = self.mel(real)
        # The last frame may reach beyond the clip.
        fake = networks["vocoder"](mel)[..., : real.shape[-1]]
        return Generated({"mel": self.mel_weight * F.l1_loss(self.mel(fake), mel)}, real, fake)


class PostNetTraining(FromMels, Stage):
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
        made = networks["vocoder"].magnitude(mel)[:, : real.shape[1]]
        return {"magnitude": F.l1_loss(made.pow(COMPRESSION), real.pow(COMPRESSION))}
