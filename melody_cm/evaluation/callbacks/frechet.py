"""The Frechet distance while training: of sampled music to held-back music."""

import logging

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from melody_cm.data.synthetic import cache_folder
from melody_cm.evaluation import EmbeddingStatistics, FrechetDistance, Score, cached_statistics, embed
from melody_cm.evaluation.callbacks.periodic import PeriodicEvaluation
from melody_cm.interfaces import AudioEmbedding

log = logging.getLogger(__name__)
SILENT_PEAK = 1e-4


class FrechetAudioDistanceCallback(PeriodicEvaluation):
    """Logs `val/fad_<embedding>` of music sampled with the averaged networks against all held-back clips.

    Beside the plain value: `_corrected` for the bias of few clips (where there are at least 2 d on both sides), `_n`
    sampled clips that were judged, `_dropped` silent or broken ones. The whole result, with interval and identity of
    the embedding, goes to evaluations/step_000200/fad_<embedding>.json. The reference is embedded once and cached.

    Args:
        embedding: the space that distances are measured in.
        every_n_steps, num_clips, batch_size, prompts: as in `PeriodicEvaluation`.

    Raises:
        ValueError: the data's clips are too short for the embedding.
    """

    def __init__(
        self,
        embedding: AudioEmbedding,
        every_n_steps: int,
        num_clips: int = 64,
        batch_size: int = 8,
        prompts: list[str] | None = None,
    ) -> None:
        super().__init__(every_n_steps, num_clips, batch_size, prompts)
        self.embedding = embedding.requires_grad_(False).eval()
        self.key = f"val/fad_{embedding.name}"
        self.keys = (self.key, f"{self.key}_corrected")
        self._reference: EmbeddingStatistics | None = None

    def check(self, trainer: Trainer, module: LightningModule) -> None:
        if not hasattr(module, "sample"):
            self.refuse(module, "it does not make music; remove it from trainer.callbacks")
        data = trainer.datamodule
        with torch.no_grad():  # A clip that is too short for the embedding is refused by it now, not hours later.
            embed(self.embedding, torch.zeros(1, 1, round(data.seconds * data.sample_rate)), data.sample_rate)

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        self.embedding.to(module.device)
        metric = FrechetDistance(self.embedding.identity).to(module.device)
        metric.reference(self._statistics(trainer))
        captions, shares = self.clips(trainer)
        for places, batch in shares:
            self._add(metric, self.sample(trainer, module, batch), module.sample_rate, places)
        sums = metric.sums(real=False)
        usable = torch.tensor([sums.num_clips, sums.num_frames], device=module.device)
        num_clips, num_frames = trainer.strategy.reduce(usable, reduce_op="sum").tolist()
        if num_frames < 2:  # An untrained network may well make nothing but silence.
            log.warning("step %d: no %s, only %d of %d clips can be judged", step, self.key, num_clips, len(captions))
            return {f"{self.key}_n": float(num_clips), f"{self.key}_dropped": float(len(captions) - num_clips)}
        score = metric.compute()
        self.write(trainer, self.key.removeprefix("val/"), step, score.as_dict())
        return self._values(score)

    def _values(self, score: Score) -> dict[str, float]:
        dropped = sum(score.dropped.get("generated", {}).values())
        values = {"": score.value, "_corrected": score.corrected, "_n": score.n_generated, "_dropped": dropped}
        return {f"{self.key}{suffix}": float(value) for suffix, value in values.items() if value is not None}

    def _add(
        self, metric: FrechetDistance, waveform: Float[Tensor, "b 1 t"], sample_rate: int, places: list[int]
    ) -> None:
        """Add sampled clips; silent ones are left out as they are when a folder is evaluated."""
        silent = waveform.abs().flatten(1).amax(1) < SILENT_PEAK
        metric.drop("silent", real=False, count=int(silent.sum()))
        if not silent.all():
            clips = [str(place) for place, is_silent in zip(places, silent.tolist(), strict=True) if not is_silent]
            metric.update(embed(self.embedding, waveform[~silent], sample_rate), real=False, clips=clips)

    def _statistics(self, trainer: Trainer) -> EmbeddingStatistics:
        """Those of the held-back clips as the stage sees them; the first process computes, the others then read."""
        if self._reference is None:
            data = trainer.datamodule
            folder = cache_folder() / "statistics" / f"{data.sample_rate}_hz_{data.seconds:g}_s"
            for rank in (True, False):
                if trainer.is_global_zero == rank:
                    identity, clips = self.embedding.identity, data.split_clips("valid")
                    self._reference = cached_statistics(identity, clips, lambda: self._embed_real(trainer), folder)
                trainer.strategy.barrier("reference statistics")
        return self._reference

    def _embed_real(self, trainer: Trainer) -> EmbeddingStatistics:
        statistics = EmbeddingStatistics.empty(self.embedding.width)
        data, device = trainer.datamodule, trainer.lightning_module.device
        clips = data.split_clips("valid")
        for batch in data.batches("valid", self.batch_size):
            embeddings = embed(self.embedding, batch.waveform.to(device), data.sample_rate)
            statistics.add(embeddings, [clips[item].piece for item in batch.item.tolist()])
        return statistics
