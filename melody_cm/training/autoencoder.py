"""Autoencoders: reconstruction, a small KL term and, if there is one, an adversary (arXiv 2305.15719, appendix B.1)."""

from itertools import islice

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Autoencoder
from melody_cm.losses import ReconstructionLoss
from melody_cm.training.adversarial import AdversarialStage, Adversary, Generated
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks

CALIBRATION_BATCHES, CALIBRATION_CLIPS = 32, 8  # Batches, and clips in each.


class AutoencoderTraining(AdversarialStage):
    """Trains a waveform or mel autoencoder: with an adversary, a VAE-GAN.

    Args:
        autoencoder: learns.
        reconstruction_loss: compares what came out with what went in.
        kl_weight: of the KL divergence from N(0, I), averaged over the batch.
        adversary, gradient_clip, accumulate: as in `AdversarialStage`.

    Attributes:
        report: the latent's mean, spread and share that is clipped, at the scale that is exported.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        reconstruction_loss: ReconstructionLoss,
        optimization: Optimization,
        kl_weight: float = 5e-3,
        adversary: Adversary | None = None,
        gradient_clip: float = 1.0,
        accumulate: int = 1,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        trained = {"autoencoder": autoencoder}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed, adversary, gradient_clip, accumulate)
        self.reconstruction_loss, self.kl_weight = reconstruction_loss, kl_weight
        self.report: dict[str, float] = {}

    def generate(self, networks: Networks, batch: MusicBatch) -> Generated:
        result = networks["autoencoder"].reconstruct(batch.need_waveform(), batch.draws(self.seed))
        terms = self.reconstruction_loss(result.prediction, result.target)
        return Generated({**terms, "kl": self.kl_weight * result.kl.mean()}, result.target, result.prediction)

    def validation_step(self, batch: MusicBatch, batch_idx: int) -> None:
        """The losses, and the latent's mean and spread and the share that is clipped, all before the scale is fixed."""
        super().validation_step(batch, batch_idx)
        self.log_dict(self._latent_values(batch), batch_size=len(batch), sync_dist=True, on_epoch=True)

    def _latent_values(self, batch: MusicBatch) -> dict[str, Tensor]:
        autoencoder = self.averaged["autoencoder"]
        mean, std = autoencoder.posterior(batch.need_waveform())
        drawn = mean + std * batch.draws(self.seed).normal("posterior", mean.shape[1:], mean.device)
        clamped = autoencoder.clamp(drawn)
        values = {"mean": clamped.mean(), "std": clamped.std(), "trimmed": (clamped != drawn).float().mean()}
        return {f"val/latent_{name}": value for name, value in values.items()}

    @torch.no_grad()
    def on_train_end(self) -> None:
        """The latent's scale is fixed from held-back music with the weights that are exported.

        `report` then says of that music what diffusion will see; it goes to finished.json.
        """
        data = self.trainer.datamodule
        batches = list(islice(data.batches("valid", batch_size=CALIBRATION_CLIPS), CALIBRATION_BATCHES))
        waveform = torch.cat([batch.need_waveform() for batch in batches]).to(self.device)
        self.averaged["autoencoder"].calibrate(waveform)
        values = [self._latent_values(batch.to(self.device)) for batch in batches]
        self.report = {name: float(torch.stack([value[name] for value in values]).mean()) for name in values[0]}

    @torch.no_grad()
    def reconstruct(self, batch: MusicBatch) -> Tensor:
        """The reconstruction (b, 1, t) of a batch by the averaged autoencoder, from the mean of the posterior."""
        autoencoder = self.averaged["autoencoder"]
        return autoencoder.decode(autoencoder.encode(batch.need_waveform()))[..., : batch.frame_mask.shape[-1]]

    sample = reconstruct  # This is what there is to hear.
