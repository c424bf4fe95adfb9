"""What surrounds the steps: atomic checkpoints, exact stops by signals and by time, a progress bar, a loss trace."""

import math
import signal
import time
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melody_cm.storage import write_atomically

# SLURM announces the end of a job by the last, which Windows lacks.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
STATE = ("state_dict", "optimizer_states")  # Where every number of a checkpoint must be finite.


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written aside, synced, renamed: whatever happens, `last.ckpt` is whole. Read without pickled code.

    A state with a number that is not finite is neither written nor read; damage is noticed by the zip's checksums.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if spoilt := first_spoilt({key: checkpoint.get(key) for key in STATE}):
            raise ValueError(f"{path} is not written: {spoilt} is not finite")
        write_atomically(Path(path), lambda aside: torch.save(checkpoint, aside))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()
            if damaged:
                raise ValueError(f"{damaged} does not have the checksum that it was written with")
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
            if spoilt := first_spoilt({key: checkpoint.get(key) for key in STATE}):
                raise ValueError(f"{spoilt} is not finite")
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{path} is not a whole checkpoint of melody_cm ({reason}); start anew with --retrain, which keeps "
                "it aside until the stage is finished"
            ) from error
        return checkpoint


def first_spoilt(state: Any, name: str = "") -> str | None:
    """The dotted name of the first tensor in nested data that holds a number that is not finite; None if all are."""
    if isinstance(state, torch.Tensor):
        return name if state.is_floating_point() and not bool(state.isfinite().all()) else None
    items = state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, list) else ()
    return next((bad for key, value in items if (bad := first_spoilt(value, f"{name}.{key}".strip(".")))), None)


class LastCheckpoint(Callback):
    """Keeps `last.ckpt` and stops exactly: a signal only sets a flag, which all processes share after each batch.

    Lightning's own handler broadcasts inside the signal handler, which hangs when a scheduler signals the whole group.
    After `max_seconds` the training is interrupted, as by a signal.

    """

    def __init__(self, path: Path, every_n_steps: int, max_seconds: float = math.inf) -> None:
        self.path, self.every_n_steps, self.max_seconds = path, every_n_steps, max_seconds
        self.interrupted = False  # By a signal or the time.
        self.signalled = False
        self.saved_steps: int | None = None  # Which the checkpoint on disk holds, if one was written or read.
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end = time.monotonic() + self.max_seconds
        self.saved_steps = pl_module.steps_done or None
        self._previous = {number: signal.signal(number, self._remember) for number in STOP_SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.between_steps:
            return
        self.signalled = trainer.strategy.reduce_boolean_decision(self.signalled, all=False)
        if 0 < trainer.max_steps <= trainer.global_step:
            return  # The last state is saved after `on_train_end`, without which it would not be complete.
        late = self.max_seconds < math.inf and time.monotonic() > self._end
        stop = self.signalled or (late if trainer.world_size == 1 else trainer.strategy.broadcast(late))
        if stop or pl_module.steps_done % self.every_n_steps == 0:
            self.save(trainer, pl_module)
        if stop:
            self.interrupted = True
            trainer.should_stop = True

    def save(self, trainer: Trainer, module: LightningModule) -> None:
        """Write `last.ckpt`; a ValueError on all processes if a weight is not finite, and the last good checkpoint
        stays."""
        if spoilt := first_spoilt(module.state_dict()):
            raise ValueError(
                f"{spoilt} is not finite after step {module.steps_done}, though no loss or gradient was: a step of "
                f"the optimizer overflowed; {remedy(trainer)}"
            )
        trainer.save_checkpoint(self.path)
        self.saved_steps = module.steps_done

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _remember(self, number: int, frame: Any) -> None:
        if self.signalled and number == signal.SIGINT:
            raise KeyboardInterrupt  # The second Ctrl-C does not wait for the batch.
        self.signalled = True


def remedy(trainer: Trainer) -> str:
    """What to do against numbers that grew too large."""
    if trainer.precision in ("16-true", "16-mixed"):
        return f"trainer.precision {trainer.precision} ends at 65504: use bf16-mixed or 32-true"
    return "lower model.optimization.learning_rate"


def is_logged(trainer: Trainer, module: LightningModule) -> bool:
    """Whether the step that has just ended is one of those whose loss is looked at: the first, then every n-th."""
    return module.between_steps and (module.steps_done - 1) % trainer.log_every_n_steps == 0


class LossTrace(Callback):
    """Remembers how the training loss moved: the mean of its first and last `span` logged steps, across resumes."""

    def __init__(self, span: int) -> None:
        self.span = max(1, span)
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=self.span)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs or not is_logged(trainer, pl_module):
            return
        loss = float(outputs["loss"].detach())
        if not math.isfinite(loss):
            return  # Its step was left out.
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
    """One progress line a stage of so many steps, with its name and the loss."""

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
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
