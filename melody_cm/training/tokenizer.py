"""Tokenizers: feature vectors are gathered batch by batch, then clustered once."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Network, Tokenizer
from melody_cm.training.resumable import Resumable


class TokenizerFitting(Resumable):
    """Fits a tokenizer on the features of `trainer.limit_train_batches` batches; nothing is learnt by gradient.

    Args:
        tokenizer: whose codebooks are chosen.
        sample_rate: of the data, in Hz (linked to data.sample_rate).
        seed: of the clustering (linked to seed_everything).

    Attributes:
        outcome: the share of the features' variance that quantization leaves, before (1 by definition) and after.
    """

    reads_waveform = False

    def __init__(self, tokenizer: Tokenizer, sample_rate: int = 24000, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False

        self.tokenizer = tokenizer
        self.sample_rate = sample_rate
        self.seed = seed

        self.gathered: list[Tensor] = []
        self.outcome: tuple[float, float] | None = None

    @property
    def exports(self) -> dict[str, Network]:
        """The stage's result by slot."""
        return {"tokenizer": self.tokenizer}

    @torch.no_grad()
    def training_step(self, batch: MusicBatch, batch_idx: int) -> None:
        features = self.tokenizer.features(batch)
        if self.trainer.world_size > 1:  # Rank by rank: the order in which one process would have seen the clips.
            features = rearrange(self.all_gather(features), "r b l d -> (r b) l d")
        self.gathered.append(rearrange(features, "b l d -> (b l) d").float().cpu())

    @torch.no_grad()
    def on_train_end(self) -> None:
        """Cluster, unless the training was interrupted before all batches were seen."""
        if int(self.batches_seen) < self.trainer.limit_train_batches:
            return
        features = torch.cat(self.gathered)
        self.tokenizer.fit(features, self.seed)
        sample = features[None].to(self.device)
        restored = self.tokenizer.dequantize(self.tokenizer.quantize(sample))
        error = (restored - sample).square().sum() / (sample - sample.mean(1, keepdim=True)).square().sum()
        self.outcome = (1.0, float(error))

    def configure_optimizers(self) -> None:
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["features"] = torch.cat(self.gathered)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.gathered = [checkpoint["features"]]
