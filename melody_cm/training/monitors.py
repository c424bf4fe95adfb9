"""What callbacks monitor: found out before the first step, and the checkpoint that was best by it."""

import difflib
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from melody_cm.storage import read_keys, write_json

log = logging.getLogger(__name__)


class MonitorCheck(Callback):
    """Refuses a callback whose `monitor` nothing logs, by a ValueError before the first step, not hours later.

    What a stage logs is known from one batch of validation, which Lightning's sanity check gives; a training step logs
    the same terms of the loss.
    """

    def __init__(self) -> None:
        self._validated: list[str] = []

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = list(trainer.callback_metrics)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if int(pl_module.batches_seen):
            return  # A resume, which has no sanity check; it was checked when it began.
        trained = [f"train/{term}" for term in getattr(pl_module, "terms", ())]
        known = {*self._validated, *trained, *evaluated(trainer.callbacks)}
        for callback in trainer.callbacks:
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in known:
                nearest = difflib.get_close_matches(monitor, sorted(known), n=max(1, len(known)), cutoff=0.0)
                told = f"known are, nearest first, {', '.join(nearest)}" if known else "this stage is not validated"
                raise ValueError(f"{type(callback).__name__}: monitor {monitor!r} is not logged here; {told}")


def evaluated(callbacks: Iterable[Callback]) -> set[str]:
    """What the evaluations among callbacks will log."""
    return {key for callback in callbacks for key in getattr(callback, "keys", ())}


class BestCheckpoint(Callback):
    """Keeps `best.ckpt`, saved whenever a metric is better than ever before; `best.json` says value and step.

    A resumed training reads the best so far from `best.json`, so that both files always agree.

    Args:
        monitor: what an evaluation among the callbacks logs (val/fad_logmel, val/si_snri, ...), or the validation
            (val/loss, ...).
        mode: whether the smallest ("min") or the largest ("max") value is best.
    """

    def __init__(self, monitor: str, mode: Literal["min", "max"] = "min") -> None:
        self.monitor, self.mode = monitor, mode
        self._best: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = Path(trainer.default_root_dir) / "best.json"
        known = read_keys(path) if path.is_file() and int(pl_module.batches_seen) else {}
        same = (known.get("monitor"), known.get("mode")) == (self.monitor, self.mode)
        self._best = trainer.strategy.broadcast(known["value"] if same else None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.monitor in evaluated(trainer.callbacks):
            self._keep(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor not in evaluated(trainer.callbacks) and not trainer.sanity_checking:
            self._keep(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._best is None:
            log.warning("no best.ckpt: %s was never measured; its evaluation says why", self.monitor)

    def _keep(self, trainer: Trainer, module: LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or not math.isfinite(value):
            return
        if self._best is not None and not (value < self._best if self.mode == "min" else value > self._best):
            return
        self._best = float(value)
        folder = Path(trainer.default_root_dir)
        trainer.save_checkpoint(folder / "best.ckpt")
        if trainer.is_global_zero:
            record = {"monitor": self.monitor, "mode": self.mode, "value": self._best, "step": int(module.steps_taken)}
            write_json(folder / "best.json", record)
