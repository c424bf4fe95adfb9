"""What callbacks monitor is logged: found out before the first step, not at the first validation, hours later."""

import difflib
from collections.abc import Iterable

from lightning.pytorch import Callback, LightningModule, Trainer


class MonitorCheck(Callback):
    """Refuses a callback whose `monitor` nothing logs, by a ValueError before the first step.

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
