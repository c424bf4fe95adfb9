"""What every LightningModule here needs to go on exactly where a checkpoint was taken."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.storage import load_weights

COUNTS = ("batches_seen", "steps_taken")


class Resumable(LightningModule):
    """A module whose checkpoints hold its own weights and the configuration it was made from, and fit no other.

    Attributes:
        batches_seen: micro-batches consumed so far; the data module goes on from here after a resume.
        sample_rate: of the data, Hz.
        configuration: saved with the checkpoint, as plain data.
        reads_waveform: False where only the parts that a recipe fills in hear music, and not the step itself: then
            what frozen parts made of the music before can stand in for it.
    """

    reads_waveform: bool = True
    batches_seen: Tensor
    sample_rate: int

    def __init__(self) -> None:
        super().__init__()
        self.configuration: dict[str, Any] = {}
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.long))
        # Read at every step, the counts stay on the CPU, and so cannot be shared by what shares buffers of a GPU.
        self._ddp_params_and_buffers_to_ignore = list(COUNTS)
        self.strict_loading = False  # Frozen stages are absent from checkpoints; on_load_checkpoint is strict instead.

    def _apply(self, fn: Any, recurse: bool = True) -> "Resumable":
        counts = {name: self._buffers[name] for name in COUNTS if name in self._buffers}
        super()._apply(fn, recurse)
        self._buffers.update(counts)
        return self

    @property
    def micro_batches_per_step(self) -> int:
        """How many micro-batches make one step of the optimizer."""
        return self.trainer.accumulate_grad_batches

    @property
    def steps_done(self) -> int:
        """Whole steps of the optimizer so far."""
        return int(self.batches_seen) // self.micro_batches_per_step

    @property
    def between_steps(self) -> bool:
        """Whether no micro-batch waits for others: the only moments at which a checkpoint is whole."""
        return int(self.batches_seen) % self.micro_batches_per_step == 0

    def on_train_batch_start(self, batch: MusicBatch, batch_idx: int) -> None:
        self.batches_seen += 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["configuration"] = self.configuration

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        try:
            load_weights(self, checkpoint["state_dict"], "the checkpoint")
        except ValueError as error:
            raise ValueError(f"{error}; start anew with --retrain, which keeps it aside") from error

    def check_sample_rates(self) -> None:
        """Refuse with a ValueError a part that works at another rate than the data's; parts that hear no audio may."""
        deaf = [f"{name}." for name, module in self.named_modules() if getattr(module, "uses_audio", True) is False]
        for name, module in self.named_modules():
            rate = getattr(module, "sample_rate", self.sample_rate)
            if rate != self.sample_rate and not name.startswith(tuple(deaf)):
                raise ValueError(
                    f"{name} works at {rate} Hz but the data has {self.sample_rate} Hz; "
                    f"set data.sample_rate to {rate}, or make that part, or train its stage, at {self.sample_rate} Hz"
                )
