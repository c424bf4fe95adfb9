"""Measures while training: SI-SNR, the Frechet distance of sampled music, and recall of a joint embedding."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from melody_cm.batch import MusicBatch
from melody_cm.data.jobs import cache_folder
from melody_cm.evaluation.callbacks.periodic import PeriodicEvaluation
from melody_cm.evaluation.clips import embed
from melody_cm.evaluation.frechet import frechet_score
from melody_cm.evaluation.music import comb_excess
from melody_cm.evaluation.reference import cached_statistics
from melody_cm.evaluation.retrieval import RANKS, RetrievalRecall
from melody_cm.evaluation.si_snr import NUM_ANGLES, SISNR, DenoisingScores, denoise_at_every_angle
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.interfaces import AudioEmbedding, Autoencoder
from melody_cm.signal.levels import SILENT_PEAK

log = logging.getLogger(__name__)
MAIN_RANK = 5


class SISNRCallback(PeriodicEvaluation):
    """Logs what fits the stage, for held-back clips and the averaged networks.

    An autoencoder: `val/si_snr`, dB of the reconstructed waveform. A mel autoencoder's phases come from its vocoder, so
    its value is always low. A waveform autoencoder also: `val/comb`, how far it hums at multiples of its latent rate,
    dB, beside what the real clips have there, `val/comb_real`.

    Latent diffusion: `val/velocity_mse`, and `val/si_snri`, the dB that one call gains over the noisy latent, without
    guidance, averaged over 16 noise levels; the curve over them goes to
    evaluations/step_000200/si_snri.json. Of white Gaussian latents of standard deviation s, the best predictor that
    ignores structure has velocity error s and gains 0 dB.

    Args:
        every_n_steps, num_clips, batch_size: as in `PeriodicEvaluation`.
    """

    needs = {"reconstruct": "it neither reconstructs", "denoising": "nor denoises"}

    def __init__(self, every_n_steps: int, num_clips: int = 16, batch_size: int = 8) -> None:
        super().__init__(every_n_steps, num_clips, batch_size)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        reconstructs = hasattr(pl_module, "reconstruct")
        self.keys = ("val/si_snr",) if reconstructs else ("val/velocity_mse", "val/si_snri", "val/si_snri_median")

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        judge = self._reconstruction if hasattr(module, "reconstruct") else self._denoising
        return {f"val/{key}": value for key, value in judge(trainer, module, step).items() if value is not None}

    def _reconstruction(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float | None]:
        metric = SISNR().to(module.device)
        rate = latent_rate(module)
        combs = {
            name: MeanMetric(nan_strategy="ignore").to(module.device)
            for name in (("comb", "comb_real") if rate else ())
        }
        for _, batch in self.clips(trainer).shares:
            made = self.sample(trainer, module, batch)
            metric.update(made, batch.waveform.to(module.device))
            for comb, clips in zip(combs.values(), (made, batch.waveform), strict=False):
                comb.update(torch.tensor([comb_excess(clip[0], module.sample_rate, rate) for clip in clips]))
        score = metric.compute()
        self.write(trainer, "si_snr", step, asdict(score))
        return {
            **{name: float(comb.compute()) for name, comb in combs.items()},
            "si_snr": score.value,
            "si_snr_n": float(score.n_generated),
            "si_snr_dropped": float(score.num_dropped()),
        }

    def _denoising(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float | None]:
        captions, shares = self.clips(trainer)
        scores = DenoisingScores(len(captions)).to(module.device)
        for places, batch in shares:
            batch = batch.to(module.device)
            with trainer.precision_plugin.val_step_context():
                latent, conditioning, denoiser = module.denoising(batch)
            noise = batch.draws(module.seed).normal("evaluation noise", latent.shape[1:], module.device)
            with trainer.precision_plugin.val_step_context():
                denoise_at_every_angle(scores, places, latent, noise, partial(denoiser, conditioning=conditioning))
        result = scores.compute()
        self.write(trainer, "si_snri", step, result)
        dropped = (result["silent"] + result["not_finite"]) / NUM_ANGLES
        values = {name: result[name] for name in ("velocity_mse", "si_snri", "si_snri_median")}
        return {**values, "si_snri_n": result["n"] / NUM_ANGLES, "si_snri_dropped": dropped}


def latent_rate(module: LightningModule) -> float | None:
    """Latent frames a second of a waveform autoencoder that a stage trains; None of other stages."""
    autoencoder = module.averaged["autoencoder"] if "autoencoder" in getattr(module, "averaged", {}) else None
    shape = autoencoder.latent_shape(1.0) if isinstance(autoencoder, Autoencoder) else ()
    return float(shape[1]) if len(shape) == 2 else None


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

    needs = {"sample": "it does not make music"}

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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        data = trainer.datamodule
        # A clip that is too short for the embedding is refused by it now, not hours later.
        embed(self.embedding, torch.zeros(1, 1, round(data.seconds * data.sample_rate)), data.sample_rate)

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        self.embedding.to(module.device)
        generated = EmbeddingStatistics.empty(self.embedding.width, device=module.device)
        captions, shares = self.clips(trainer)
        for places, batch in shares:
            self._add(generated, self.sample(trainer, module, batch), module.sample_rate, places)
        reference, generated = self._statistics(trainer), generated.over_processes()
        count = generated.num_clips
        values = {"_n": count, "_dropped": len(captions) - count}
        if generated.num_frames < 2:  # An untrained network may well make nothing but silence.
            log.warning("step %d: no %s, only %d of %d clips can be judged", step, self.key, count, len(captions))
        else:
            score = frechet_score(generated, reference, self.embedding.identity)
            self.write(trainer, self.key.removeprefix("val/"), step, asdict(score))
            values |= {"": score.value, "_corrected": score.corrected}
        return {f"{self.key}{suffix}": float(value) for suffix, value in values.items() if value is not None}

    def _add(
        self, statistics: EmbeddingStatistics, waveform: Float[Tensor, "b 1 t"], sample_rate: int, places: list[int]
    ) -> None:
        """Add sampled clips; silent ones are left out as they are when a folder is evaluated."""
        # A clip that is not finite is not silent: it is counted as what it is.
        loud = ~(waveform.abs().flatten(1).amax(1) < SILENT_PEAK)
        statistics.drop("silent", count=int((~loud).sum()))
        if loud.any():
            clips = [str(place) for place, is_loud in zip(places, loud.tolist(), strict=True) if is_loud]
            statistics.add(embed(self.embedding, waveform[loud], sample_rate), clips)

    def _statistics(self, trainer: Trainer) -> EmbeddingStatistics:
        """Those of the held-back clips as the stage sees them; the first process computes, the others then read."""
        data = trainer.datamodule
        folder = cache_folder() / "statistics" / f"{data.sample_rate}_hz_{data.seconds:g}_s"
        for is_first in (True, False) if self._reference is None else ():
            if trainer.is_global_zero == is_first:
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


class RetrievalCallback(PeriodicEvaluation):
    """Logs recall of the averaged joint embedding over the whole held-back split, not over batches of it.

    `val/recall_at_{1,5,10}_text_to_audio` and `..._audio_to_text` (what counts: `RetrievalRecall`); `val/recall` is
    text to audio at 5; `val/recall_chance` is what a random order would score for it, and `val/recall_n` how many
    clips there were. Everything, with chance at each k, goes to evaluations/step_000200/recall.json.

    Args:
        every_n_steps, batch_size: as in `PeriodicEvaluation`.
        num_clips: at most so many clips, the split's first: recall falls where more are searched.
    """

    needs = {"embed_pairs": "it trains no joint embedding"}

    def __init__(self, every_n_steps: int, num_clips: int = 10_000, batch_size: int = 32) -> None:
        super().__init__(every_n_steps, num_clips, batch_size)
        directions = ("text_to_audio", "audio_to_text")
        self.keys = ("val/recall", *(f"val/recall_at_{k}_{name}" for name in directions for k in RANKS))

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        num_places = min(self.num_clips, len(trainer.datamodule.split_clips("valid")))
        metric = RetrievalRecall(num_places, module.width).to(module.device)
        for batch in self._share(trainer):
            with trainer.precision_plugin.val_step_context():
                audio, text = module.embed_pairs(batch.to(module.device))
            count = int((batch.item < num_places).sum())
            places = batch.item[:count].tolist()
            metric.update(places, audio[:count].float(), text[:count].float(), batch.captions[:count])
        result = metric.compute()
        self.write(trainer, "recall", step, result)
        values = {f"val/{key}": value for key, value in result.items() if key.startswith("recall")}
        if values:
            values["val/recall"] = result[f"recall_at_{MAIN_RANK}_text_to_audio"]
            values["val/recall_chance"] = result[f"chance_at_{MAIN_RANK}"]
        return {**values, "val/recall_n": result["n"]}

    def _share(self, trainer: Trainer) -> Iterator[MusicBatch]:
        """Every other of the split's batches, read as they are needed: a whole split may not fit into memory."""
        for number, batch in enumerate(trainer.datamodule.batches("valid", self.batch_size)):
            if int(batch.item[0]) >= self.num_clips:
                return
            if number % trainer.world_size == trainer.global_rank:
                yield batch
