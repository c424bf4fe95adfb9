"""Autoencoders: reconstruction and a small KL term (arXiv 2305.15719, appendix B.1, without its discriminators)."""

from itertools import islice

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Autoencoder
from melody_cm.losses import ReconstructionLoss
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage

CALIBRATION_BATCHES = 8


class AutoencoderTraining(Stage):
    """Trains a waveform or mel autoencoder.

    Args:
        autoencoder: learns.
        reconstruction_loss: compares what came out with what went in.
        kl_weight: of the KL divergence from N(0, I), averaged over the batch.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        reconstruction_loss: ReconstructionLoss,
        optimization: Optimization,
        kl_weight: float = 5e-3,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        super().__init__({"autoencoder": autoencoder}, optimization, ema_decay, sample_rate, seed)
        self.reconstruction_loss = reconstruction_loss
        self.kl_weight = kl_weight

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        result = networks["autoencoder"].reconstruct(batch.need_waveform(), batch.draws(self.seed))
        terms = self.reconstruction_loss(result.prediction, result.target)
        return {**terms, "kl": self.kl_weight * result.kl.mean()}

    @torch.no_grad()
    def on_train_end(self) -> None:
        """The latent's scale is fixed from held-back music with the weights that are exported."""
        batches = islice(self.trainer.datamodule.batches("valid", batch_size=32), CALIBRATION_BATCHES)
        waveform = torch.cat([batch.need_waveform() for batch in batches]).to(self.device)
        self.averaged["autoencoder"].calibrate(waveform)

    @torch.no_grad()
    def reconstruct(self, batch: MusicBatch) -> Tensor:
        """The reconstruction (b, 1, t) of a batch by the averaged autoencoder, from the mean of the posterior."""
        autoencoder = self.averaged["autoencoder"]
        return autoencoder.decode(autoencoder.encode(batch.need_waveform()))[..., : batch.frame_mask.shape[-1]]

    def sample(self, batch: MusicBatch) -> Tensor:
        """What there is to hear of an autoencoder: its reconstruction (b, 1, t)."""
        return self.reconstruct(batch)
