"""The base of all evaluations while training: when they run, on which clips, and that they leave no trace in it."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.data import MusicDataModule, collate
from melody_cm.data.order import EVALUATION_EPOCH
from melody_cm.storage import write_json


class Share(NamedTuple):
    """Some of a process's clips: the batch, and the places of its clips among those of all processes."""

    places: list[int]
    batch: MusicBatch


class FixedClips(NamedTuple):
    """captions of the clips of all processes, and this process's own clips in batches."""

    captions: list[str]
    shares: list[Share]


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
        needs: method that a stage must have -> what is wrong with one that has not; one of several is enough.

    Raises:
        ValueError: a number that is not positive; a stage that cannot be evaluated so.
    """

    keys: Sequence[str] = ()
    needs: Mapping[str, str] = {}

    def __init__(
        self, every_n_steps: int, num_clips: int, batch_size: int, prompts: Sequence[str] | None = None
    ) -> None:
        for name, value in {"every_n_steps": every_n_steps, "num_clips": num_clips, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {value}; use at least 1")
        if prompts is not None and not prompts:
            raise ValueError(f"{type(self).__name__}: prompts is empty; leave it out to use held-back clips")
        self.every_n_steps, self.num_clips, self.batch_size = every_n_steps, num_clips, batch_size
        self.prompts = prompts
        self._done_at = 0
        self._clips: FixedClips | None = None

    @abstractmethod
    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        """The values to log by key, the same on all processes; runs without gradient, in evaluation mode."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._clips = None
        if not hasattr(pl_module, "steps_taken"):
            self.refuse(pl_module, "nothing is learned by steps there")
        if self.prompts is not None and getattr(pl_module, "uses_audio", True):
            self.refuse(pl_module, "it does not start from captions; leave out `prompts` to use held-back clips")
        if not any(hasattr(pl_module, method) for method in self.needs):
            self.refuse(pl_module, f"{' and '.join(self.needs.values())}; remove it from trainer.callbacks")

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


def share_out(singles: Iterator[MusicBatch], batch_size: int, rank: int, num_processes: int) -> FixedClips:
    """Process `rank` gets every num_processes-th clip, none twice, and none at all where there are too few.

    Args:
        singles: the clips of all processes, batches of one.
        batch_size: clips at a time over all processes.
    """
    captions: list[str] = []
    own: list[tuple[int, MusicBatch]] = []
    for place, clip in enumerate(singles):
        captions += clip.captions
        if place % num_processes == rank:
            own.append((place, clip))
    size = max(1, batch_size // num_processes)
    parts = [own[start : start + size] for start in range(0, len(own), size)]
    shares = [Share([place for place, _ in part], collate([clip for _, clip in part])) for part in parts]
    return FixedClips(captions, shares)


def held_back_clips(data: MusicDataModule, num_clips: int) -> Iterator[MusicBatch]:
    """The first clips of the validation split, real audio with their captions."""
    return islice(data.batches("valid", 1), num_clips)


def prompted_clips(data: MusicDataModule, prompts: Sequence[str]) -> Iterator[MusicBatch]:
    """Clips of the data's length of which nothing but the caption is known."""
    length = round(data.seconds * data.sample_rate)
    for item, prompt in enumerate(prompts):
        yield MusicBatch(
            item=torch.tensor([item]),
            epoch=torch.tensor([EVALUATION_EPOCH]),
            waveform=torch.zeros(1, 1, length),
            frame_mask=torch.ones(1, length, dtype=torch.bool),
            captions=[prompt],
        )


@contextmanager
def undisturbed(module: LightningModule) -> Iterator[None]:
    """Run a block in evaluation mode and without gradient.

    Then, even after an error, every part of the module is in the mode it was in, and every global random stream
    (Python, numpy, torch on CPU and GPU) goes on where it was.
    """
    modes = [(part, part.training) for part in module.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            module.eval()
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for part, mode in modes:
            part.training = mode
