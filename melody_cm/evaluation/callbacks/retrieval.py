"""Recall while training: do held-back texts find their music, and held-back music its text?"""

from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer

from melody_cm.batch import MusicBatch
from melody_cm.evaluation.callbacks.periodic import PeriodicEvaluation
from melody_cm.evaluation.retrieval import RANKS, RetrievalRecall

MAIN_RANK = 5


class RetrievalCallback(PeriodicEvaluation):
    """Logs recall of the averaged joint embedding over the whole held-back split, not over batches of it.

    `val/recall_at_{1,5,10}_text_to_audio` and `..._audio_to_text` (what counts: `RetrievalRecall`); `val/recall` is
    text to audio at 5; `val/recall_chance` is what a random order would score for it, and `val/recall_n` how many
    clips there were. Everything, with chance at each k, goes to evaluations/step_000200/recall.json.

    Args:
        every_n_steps, batch_size: as in `PeriodicEvaluation`.
        num_clips: at most so many clips, the split's first: recall falls where more are searched.
    """

    def __init__(self, every_n_steps: int, num_clips: int = 10_000, batch_size: int = 32) -> None:
        super().__init__(every_n_steps, num_clips, batch_size)
        directions = ("text_to_audio", "audio_to_text")
        self.keys = ("val/recall", *(f"val/recall_at_{k}_{name}" for name in directions for k in RANKS))

    def check(self, trainer: Trainer, module: LightningModule) -> None:
        if not hasattr(module, "embed_pairs"):
            self.refuse(module, "it trains no joint embedding; remove it from trainer.callbacks")

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        metric = RetrievalRecall(self._num_places(trainer), module.width).to(module.device)
        for batch in self._share(trainer):
            with trainer.precision_plugin.val_step_context():
                audio, text = module.embed_pairs(batch.to(module.device))
            metric.update(batch.item.tolist(), audio.float(), text.float(), batch.captions)
        result = metric.compute()
        self.write(trainer, "recall", step, result)
        values = {f"val/{key}": value for key, value in result.items() if key.startswith("recall")}
        if values:
            values["val/recall"] = result[f"recall_at_{MAIN_RANK}_text_to_audio"]
            values["val/recall_chance"] = result[f"chance_at_{MAIN_RANK}"]
        return {**values, "val/recall_n": result["n"]}

    def _num_places(self, trainer: Trainer) -> int:
        return min(self.num_clips, len(trainer.datamodule.split_clips("valid")))

    def _share(self, trainer: Trainer) -> Iterator[MusicBatch]:
        """Every other of the split's batches, read as they are needed: a whole split may not fit into memory."""
        for number, batch in enumerate(trainer.datamodule.batches("valid", self.batch_size)):
            first, last = int(batch.item[0]), int(batch.item[-1])
            if first >= self.num_clips:
                return
            if number % trainer.world_size == trainer.global_rank:
                yield batch if last < self.num_clips else _before(batch, self.num_clips)


def _before(batch: MusicBatch, end: int) -> MusicBatch:
    """The clips of a batch whose place is before `end`."""
    count = int((batch.item < end).sum())
    return MusicBatch(
        batch.item[:count],
        batch.epoch[:count],
        batch.need_waveform()[:count],
        batch.frame_mask[:count],
        batch.captions[:count],
    )
