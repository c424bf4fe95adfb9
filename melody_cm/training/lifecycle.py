"""What surrounds the steps: atomic checkpoints, exact stops on SIGTERM and Ctrl-C, a progress bar, a loss trace."""

import signal
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melody_cm.storage import write_atomically

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written aside, synced, renamed: whatever happens, `last.ckpt` is whole. Read without pickled code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda aside: torch.save(checkpoint, aside))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is not a checkpoint of melody_cm ({reason}); remove it to start anew") from error


class LastCheckpoint(Callback):
    """Keeps `last.ckpt` and stops exactly: a signal only sets a flag, which all processes share after each batch.

    Lightning's own handler broadcasts inside the signal handler, which hangs when a scheduler signals the whole group.

    Args:
        path: of the checkpoint.
        every_n_steps: how often it is written, in optimizer steps.

    Attributes:
        interrupted: True if a signal ended the training early.
        signalled: True if a signal came at all.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.interrupted = False
        self.signalled = False
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous = {number: signal.signal(number, self._remember) for number in STOP_SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.between_steps:
            return
        stop = trainer.strategy.reduce_boolean_decision(self.signalled, all=False)
        self.signalled = stop
        if 0 < trainer.max_steps <= trainer.global_step:
            refuse_non_finite(outputs, trainer)
            return  # The last state is saved after `on_train_end`, without which it would not be complete.
        if stop or pl_module.steps_done % self.every_n_steps == 0:
            refuse_non_finite(outputs, trainer)
            trainer.save_checkpoint(self.path)
        if stop:
            self.interrupted = True
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _remember(self, number: int, frame: Any) -> None:
        if self.signalled and number == signal.SIGINT:
            raise KeyboardInterrupt  # The second Ctrl-C does not wait for the batch.
        self.signalled = True


def refuse_non_finite(outputs: Any, trainer: Trainer) -> None:
    """Stop before a spoilt state is saved."""
    if outputs and not bool(torch.isfinite(outputs["loss"])):
        raise ValueError(
            f"the loss became {float(outputs['loss'])} at step {trainer.global_step}; lower "
            "model.optimization.learning_rate and train this stage with --retrain"
        )


def is_logged(trainer: Trainer, module: LightningModule) -> bool:
    """Whether the step that has just ended is one of those whose loss is looked at: the first, then every n-th."""
    return module.between_steps and (module.steps_done - 1) % trainer.log_every_n_steps == 0


class LossTrace(Callback):
    """Remembers how the training loss moved: the mean of the first and of the last logged steps, across resumes.

    Args:
        span: how many logged steps each mean covers.
    """

    def __init__(self, span: int) -> None:
        self.span = max(1, span)
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=self.span)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs or not is_logged(trainer, pl_module):
            return
        refuse_non_finite(outputs, trainer)
        loss = float(outputs["loss"].detach())
        if len(self.first) < self.span:
            self.first.append(loss)
        self.last.append(loss)

    @property
    def movement(self) -> tuple[float, float] | None:
        """Mean loss of the first and of the last steps, or None if no step reported one."""
        if not self.first:
            return None
        return sum(self.first) / len(self.first), sum(self.last) / len(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "last": list(self.last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.first = list(state_dict["first"])
        self.last = deque(state_dict["last"], maxlen=self.span)


class StageProgress(Callback):
    """One progress line a stage, with the loss.

    Args:
        title: the stage's name.
        steps: how many the stage has.
    """

    def __init__(self, title: str, steps: int) -> None:
        self.title = title
        self.steps = steps
        self._bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(TextColumn("{task.description}"), *columns, TextColumn("{task.fields[loss]}"))
            self._bar.start()
            total = self.steps * pl_module.micro_batches_per_step
            self._bar.add_task(self.title, total=total, completed=int(pl_module.batches_seen), loss="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        self._bar.advance(self._bar.task_ids[0])
        if outputs and is_logged(trainer, pl_module):  # Reading a loss waits for the GPU.
            self._bar.update(self._bar.task_ids[0], loss=f"loss {float(outputs['loss']):.4g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
