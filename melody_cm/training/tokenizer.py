"""Tokenizers: feature vectors are gathered batch by batch, then clustered once."""

from itertools import islice
from typing import Any

import torch
from einops import rearrange
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders import cluster_stability, codebook_report
from melody_cm.interfaces import Network, Tokenizer
from melody_cm.training.resumable import Resumable

HELD_BACK_BATCHES = 8


class TokenizerFitting(Resumable):
    """Fits a tokenizer on the features of `trainer.limit_train_batches` batches; nothing is learnt by gradient.

    Args:
        tokenizer: whose codebooks are chosen.
        sample_rate: of the data, in Hz (linked to data.sample_rate).
        seed: of the clustering (linked to seed_everything).

    Raises:
        ValueError: the tokenizer hears another rate than the data's.

    Attributes:
        outcome: the share of the features' variance that quantization leaves, before (1 by definition) and after.
        report: `codebook_report` of the vectors that it was `fitted` on, of `held_back` ones, and of the embeddings of
            held-back captions (`held_back_text`) where the tokenizer is used for these too; and the `stability` of
            the codes of audio frames.
    """

    reads_waveform = False

    def __init__(self, tokenizer: Tokenizer, sample_rate: int = 24000, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.tokenizer, self.sample_rate, self.seed = tokenizer, sample_rate, seed
        self.gathered: list[Tensor] = []
        self.outcome: tuple[float, float] | None = None
        self.report: dict[str, Any] = {}
        self.check_sample_rates()

    @property
    def exports(self) -> dict[str, Network]:
        """The stage's result by slot."""
        return {"tokenizer": self.tokenizer}

    def setup(self, stage: str) -> None:
        """DDP refuses a module without gradients; this one gathers what it needs from all processes itself."""
        if isinstance(self.trainer.strategy, DDPStrategy):
            self.trainer.strategy.configure_ddp = lambda: None

    @torch.no_grad()
    def training_step(self, batch: MusicBatch, batch_idx: int) -> None:
        features, items = self.tokenizer.features(batch), batch.item
        if self.trainer.world_size > 1:  # Rank by rank: the order in which one process would have seen the clips.
            features = rearrange(self.all_gather(features), "r b l d -> (r b) l d")
            items = self.all_gather(items.to(self.device)).flatten()
        spoilt = ~features.flatten(1).isfinite().all(1)
        if bool(spoilt.any()):
            clip = self.trainer.datamodule.split_clips("train")[int(items[spoilt][0])]
            raise ValueError(f"{clip.where}: the features of this clip are not finite; leave it out of the corpus")
        self.gathered.append(rearrange(features, "b l d -> (b l) d").float().cpu())

    @torch.no_grad()
    def on_train_end(self) -> None:
        """Cluster, unless the training was interrupted before all batches were seen."""
        if int(self.batches_seen) < self.trainer.limit_train_batches:
            return
        features = torch.cat(self.gathered)
        self.tokenizer.fit(features, self.seed)
        self.report = {"fitted": codebook_report(self.tokenizer, features.to(self.device)), **self._held_back(features)}
        self.outcome = (1.0, self.report["fitted"]["quantization_error"][-1])
        if idle := idle_codebooks(self.report["fitted"]["perplexity"], self.tokenizer.codebook_size):
            self.trainer.print(idle)
        for logger in self.trainer.loggers:
            logger.log_metrics(flat(self.report), step=int(self.batches_seen))

    def configure_optimizers(self) -> None:
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["features"] = torch.cat(self.gathered)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.gathered = [checkpoint["features"]]

    def _held_back(self, fitted_on: Tensor) -> dict[str, Any]:
        """What the report says of held-back music."""
        data = self.trainer.datamodule
        batches = [batch.to(self.device) for batch in islice(data.batches("valid", data.batch_size), HELD_BACK_BATCHES)]
        audio = torch.cat([self.tokenizer.features(batch).flatten(0, 1).float() for batch in batches])
        report: dict[str, Any] = {"held_back": codebook_report(self.tokenizer, audio)}
        captions = [caption for batch in batches for caption in batch.captions if caption.strip()]
        if hasattr(self.tokenizer, "text_features") and captions:
            text = self.tokenizer.text_features(captions)[:, 0].float()
            report["held_back_text"] = codebook_report(self.tokenizer, text)
        if self.tokenizer.frame_rate and data.seconds > 1:
            report["stability"] = cluster_stability(self.tokenizer, fitted_on, batches[0], self.seed)
        return report


def idle_codebooks(perplexities: list[float], size: int) -> str | None:
    """A line about codebooks of `size` entries that are used as if they had fewer than half of them, or None."""
    idle = [f"level {level}: {value:.0f}" for level, value in enumerate(perplexities, start=1) if value < size / 2]
    if not idle:
        return None
    return (
        f"less than half of the codebook of {size} is at work (perplexity of {', '.join(idle)}): different music gets "
        "the same codes; train what makes the features for longer, or set codebook_size lower"
    )


def flat(report: dict[str, Any]) -> dict[str, float]:
    """Every number of a report under one key: held_back/perplexity_1 for the first level."""
    values: dict[str, float] = {}
    for group, numbers in report.items():
        for name, value in numbers.items():
            levels = enumerate(value, start=1) if isinstance(value, list) else [("", value)]
            values |= {f"{group}/{name}" + (f"_{level}" if level else ""): number for level, number in levels}
    return values
