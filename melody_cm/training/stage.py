"""The base of all LightningModules: one training stage that learns by gradient, averages, validates and exports."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Network
from melody_cm.storage import load_weights
from melody_cm.training.ema import averaged_copy, update_average, warmed_decay
from melody_cm.training.optimization import Optimization
from melody_cm.training.resumable import Resumable
from melody_cm.training.skipped_steps import SkippedSteps
from melody_cm.training.watch import gradient_norm, is_written

Networks = nn.ModuleDict


class Stage(Resumable, ABC):
    """A stage trains networks by role and leaves their averages as its result.

    Subclasses say which networks (`trained`, by the slot name under which later stages find them) and what the loss is.

    Args:
        trained: the networks that learn.
        optimization: how.
        ema_decay: of the averages that are validated and exported.
        sample_rate: of the data, in Hz (linked to data.sample_rate).
        seed: of all draws (linked to seed_everything).

    Attributes:
        steps_taken: of the optimizer so far, with those that were left out.
        skipped: what was left out because a loss or a gradient was not finite.
        terms: what is logged under val/ and train/ of every loss; known after the first.
    """

    steps_taken: Tensor
    terms: tuple[str, ...] = ()
    begins_as_frozen: tuple[str, ...] = ()  # Networks that begin as copies of frozen ones, where no weights are given.

    def __init__(
        self, trained: Mapping[str, Network], optimization: Optimization, ema_decay: float, sample_rate: int, seed: int
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleDict(trained)
        self.averaged = nn.ModuleDict({name: averaged_copy(network) for name, network in trained.items()})
        self.optimization, self.ema_decay = optimization, ema_decay
        self.sample_rate, self.seed = sample_rate, seed
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.long))
        self.skipped = SkippedSteps()
        self.check_sample_rates()

    @abstractmethod
    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        """The weighted terms whose sum is the loss, computed with the given networks (learning or averaged)."""

    def start_from(self, weights: Mapping[str, Mapping[str, Tensor]], source: str) -> None:
        """Give networks other first weights, by slot, before the first step; a ValueError names `source` and what does
        not fit."""
        for name, own in weights.items():
            for networks in (self.trained, self.averaged):
                load_weights(networks[name], own, f"{source}: {name}")

    @property
    def exports(self) -> dict[str, Network]:
        """The stage's result by slot."""
        return dict(self.averaged.items())

    def training_step(self, batch: MusicBatch, batch_idx: int) -> Tensor:
        terms = self.losses(self.trained, batch)
        self.skipped.note(batch, terms)
        return self._log_terms("train", terms, len(batch))

    def validation_step(self, batch: MusicBatch, batch_idx: int) -> None:
        self._log_terms("val", self.losses(self.averaged, batch), len(batch))

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.skipped.check(self, optimizer)
        if self.automatic_optimization:
            self.log_gradient_norm()

    def log_gradient_norm(self) -> None:
        """Log the norm of the gradients, before they are clipped, where Lightning writes what is logged."""
        if is_written(self.trainer, self):
            self.log("train/gradient_norm", gradient_norm(self.trained.parameters()))

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.steps_taken += 1
        self.after_step()

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning's, which would refuse a fused AdamW in any mixed precision; bf16 has no scale to undo first."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def after_step(self) -> None:
        """What follows each step of the optimizer."""
        decay = warmed_decay(self.ema_decay, self.steps_taken)
        for name, average in self.averaged.items():
            update_average(average, self.trained[name], decay)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.optimization.build(self.trained.parameters(), self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["skipped_steps"] = self.skipped.count

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.skipped.count = checkpoint.get("skipped_steps", 0)

    def _log_terms(self, split: str, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log the terms of a loss and their sum, which is returned."""
        self.terms = (*terms, "loss")
        loss = torch.stack(list(terms.values())).sum()
        values = {f"{split}/{name}": value.detach() for name, value in terms.items()} | {f"{split}/loss": loss.detach()}
        self.log_dict(values, batch_size=batch_size, sync_dist=split == "val", on_epoch=split == "val")
        return loss
