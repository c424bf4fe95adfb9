"""Codecs: reconstruction, commitment to the codes, perhaps an adversary (arXiv 2107.03312, section III-D)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from melody_cm.autoencoders import WaveformCodec
from melody_cm.batch import MusicBatch
from melody_cm.encoders.kmeans import perplexity
from melody_cm.losses import ReconstructionLoss
from melody_cm.randomness import keyed_seed
from melody_cm.training.adversarial import AdversarialStage, Adversary, Generated
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks


class CodebookPerplexity(Metric):
    """The perplexity of the codes of each of q codebooks, over all batches and processes: 1 .. size."""

    full_state_update = False

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(num_codebooks, codebook_size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, codes: Int[Tensor, "b q l"]) -> None:
        size = self.counts.shape[1]
        self.counts += torch.stack([torch.bincount(level.flatten(), minlength=size) for level in codes.unbind(1)])

    def compute(self) -> Float[Tensor, " q"]:
        return perplexity(self.counts / self.counts.sum(1, keepdim=True))


class CodecTraining(AdversarialStage):
    """Trains a waveform codec as `AutoencoderTraining` trains an autoencoder; its codebooks learn after every step.

    They learn from the vectors of all processes and micro-batches, in the order of the clips: two processes leave what
    one leaves.

    Args:
        codec: learns.
        reconstruction_loss: compares what came out with what went in.
        commitment_weight: of the squared distance of the encoder's vectors from their codes.
        adversary, gradient_clip, accumulate: as in `AdversarialStage`.
    """

    def __init__(
        self,
        codec: WaveformCodec,
        reconstruction_loss: ReconstructionLoss,
        optimization: Optimization,
        commitment_weight: float = 0.25,
        adversary: Adversary | None = None,
        gradient_clip: float = 1.0,
        accumulate: int = 1,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        trained = {"codec": codec}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed, adversary, gradient_clip, accumulate)
        self.reconstruction_loss, self.commitment_weight = reconstruction_loss, commitment_weight
        self.perplexity = CodebookPerplexity(codec.num_codebooks, codec.codebook_size)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def generate(self, networks: Networks, batch: MusicBatch) -> Generated:
        result = networks["codec"].reconstruct(batch.need_waveform())
        if torch.is_grad_enabled():  # The generator's own pass: a discriminator's and validation's come without.
            keys = (batch.epoch * 2**32 + batch.item).to(result.features.device, non_blocking=True)
            self._seen.append((keys, result.features))
        terms = self.reconstruction_loss(result.prediction, result.target)
        terms = {**terms, "commitment": self.commitment_weight * result.commitment}
        return Generated(terms, result.target, result.prediction)

    def after_step(self) -> None:
        keys, features = (self._from_everywhere(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self._seen = []
        seed = keyed_seed(self.seed, "codebooks", 0, int(self.steps_taken))
        self.trained["codec"].quantizer.learn(features[keys.argsort()].flatten(0, 1), seed)
        super().after_step()

    def validation_step(self, batch: MusicBatch, batch_idx: int) -> None:
        """The losses, and the codes that were used."""
        super().validation_step(batch, batch_idx)
        self.perplexity.update(self.averaged["codec"].encode_codes(batch.need_waveform()))

    def on_validation_epoch_end(self) -> None:
        values = {f"val/perplexity_{level}": value for level, value in enumerate(self.perplexity.compute())}
        self.perplexity.reset()
        self.log_dict(values, sync_dist=True)

    @torch.no_grad()
    def reconstruct(self, batch: MusicBatch) -> Tensor:
        """The reconstruction (b, 1, t) of a batch by the averaged codec, through its codes."""
        codec = self.averaged["codec"]
        return codec.decode_codes(codec.encode_codes(batch.need_waveform()))[..., : batch.frame_mask.shape[-1]]

    sample = reconstruct  # This is what there is to hear.

    def _from_everywhere(self, rows: Tensor) -> Tensor:
        return self.all_gather(rows).reshape(-1, *rows.shape[1:])
