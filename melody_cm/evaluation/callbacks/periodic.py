"""The base of all evaluations while training: when they run, on which clips, and where their results go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.evaluation.callbacks.fixed_clips import FixedClips, held_back_clips, prompted_clips, share_out
from melody_cm.evaluation.callbacks.undisturbed import undisturbed
from melody_cm.storage import write_json


class PeriodicEvaluation(Callback, ABC):
    """Every n steps of the optimizer, and after the last one, looks at always the same clips with the same noise.

    Clips are shared out among the processes. The training goes on as if nothing had happened: random numbers, modes and
    weights are what they were, even after an error.

    Args:
        every_n_steps: of the optimizer; larger than the training, it leaves the evaluation after the last step.
        num_clips: the first so many held-back clips, as many as there are.
        batch_size: clips at a time over all processes.
        prompts: captions to sample from in place of the clips' own.

    Attributes:
        keys: what can be monitored, known before the training.

    Raises:
        ValueError: a number that is not positive; a stage that cannot be evaluated so.
    """

    keys: Sequence[str] = ()

    def __init__(
        self, every_n_steps: int, num_clips: int, batch_size: int, prompts: Sequence[str] | None = None
    ) -> None:
        sizes = {"every_n_steps": every_n_steps, "num_clips": num_clips, "batch_size": batch_size}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {value}; use at least 1")
        if prompts is not None and not prompts:
            raise ValueError(f"{type(self).__name__}: prompts is empty; leave it out to use held-back clips")
        self.every_n_steps = every_n_steps
        self.num_clips = num_clips
        self.batch_size = batch_size
        self.prompts = prompts
        self._done_at = 0
        self._clips: FixedClips | None = None

    @abstractmethod
    def check(self, trainer: Trainer, module: LightningModule) -> None:
        """Refuse, with ValueError, a stage that cannot be evaluated; called before the training."""

    @abstractmethod
    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        """The values to log by key, the same on all processes; runs without gradient, in evaluation mode."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._clips = None
        if not hasattr(pl_module, "steps_taken"):
            self.refuse(pl_module, "nothing is learned by steps there")
        if self.prompts is not None and getattr(pl_module, "uses_audio", True):
            self.refuse(pl_module, "it does not start from captions; leave out `prompts` to use held-back clips")
        self.check(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done_at = int(pl_module.steps_taken)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not global_step: it counts the steps of every optimizer, and micro-batches come between steps.
        step = int(pl_module.steps_taken)
        last = 0 < trainer.max_steps <= trainer.global_step
        if step == self._done_at or (step % self.every_n_steps and not last):
            return
        self._done_at = step
        with undisturbed(pl_module):
            values = self.evaluate(trainer, pl_module, step)
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def clips(self, trainer: Trainer) -> FixedClips:
        """The clips, read once."""
        if self._clips is None:
            data = trainer.datamodule
            singles = prompted_clips(data, self.prompts) if self.prompts else held_back_clips(data, self.num_clips)
            self._clips = share_out(singles, self.batch_size, trainer.global_rank, trainer.world_size)
        return self._clips

    def sample(self, trainer: Trainer, module: LightningModule, batch: MusicBatch) -> Float[Tensor, "b 1 t"]:
        """Audio of the averaged networks for a batch, fp32, made in the precision of the training."""
        with trainer.precision_plugin.val_step_context():
            waveform = module.sample(batch.to(module.device))
        return waveform.float()

    def write(self, trainer: Trainer, name: str, step: int, result: Mapping[str, Any]) -> None:
        """Write a whole result to evaluations/step_000200/<name>.json in the stage's folder."""
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "evaluations" / f"step_{step:06d}"
            write_json(folder / f"{name}.json", {"step": step, **result})

    def refuse(self, module: LightningModule, reason: str) -> None:
        """Raise the ValueError of a stage that cannot be evaluated."""
        raise ValueError(f"{type(self).__name__} cannot evaluate {type(module).__name__}: {reason}")
