"""What people watch beside the loss: learning rate, size of gradients, speed, waiting for data, memory."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.placement import highest_memory

GIB = 2**30


class Pace:
    """How fast batches are worked on, and how long the next one is waited for, since it was last asked."""

    def __init__(self) -> None:
        self._begin()

    def batch_begins(self) -> None:
        """The next batch is there."""
        self._waited += time.monotonic() - self._idle_since

    def batch_ends(self, clips: int) -> None:
        """It is done, and so are its clips."""
        self._clips += clips
        self._idle_since = time.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Something else took so long."""
        self._since, self._idle_since = self._since + seconds, self._idle_since + seconds

    def values(self) -> dict[str, float]:
        """Clips a second and the share of the time that was waited; both begin anew."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        values = {"speed/clips_a_second": self._clips / seconds, "speed/data_wait": self._waited / seconds}
        self._begin()
        return values

    def _begin(self) -> None:
        self._since = self._idle_since = time.monotonic()
        self._waited, self._clips = 0.0, 0


class TrainingWatch(Callback):
    """Logs, at every logged step:

    `learning_rate` (and `learning_rate_discriminator`); `speed/clips_a_second` of all processes, and
    `speed/data_wait`, the share of the time in which the next batch was waited for, both since the last logged step and
    without validation; `memory/peak_gib` of the accelerator, or of the process where there is none (on Linux).
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pace = Pace()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MusicBatch, batch_idx: int
    ) -> None:
        self._pace.batch_begins()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: MusicBatch, batch_idx: int
    ) -> None:
        self._pace.batch_ends(len(batch) * trainer.world_size)
        if is_written(trainer, pl_module):
            memory = highest_memory(pl_module.device)
            known = {} if memory is None else {"memory/peak_gib": memory / GIB}
            pl_module.log_dict(self._pace.values() | known | _rates(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validating_since = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._pace.leave_out(time.monotonic() - self._validating_since)


def is_written(trainer: Trainer, module: LightningModule) -> bool:
    """Whether Lightning hands what is logged in this step to the loggers."""
    return module.between_steps and module.steps_done % max(1, trainer.log_every_n_steps) == 0


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all their gradients together; 0 if there are none."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _rates(trainer: Trainer) -> dict[str, float]:
    names = ("learning_rate", "learning_rate_discriminator")
    learning = [each for each in trainer.optimizers if each.param_groups]  # What is fitted has a mock of Lightning's.
    return {name: each.param_groups[0]["lr"] for name, each in zip(names, learning, strict=False)}
