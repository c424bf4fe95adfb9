"""`compile: true` of a recipe: torch.compile of the networks that a stage calls, and proof that it took hold."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._dynamo.utils import counters

from melody_cm.interfaces import Denoiser, TokenLM


class Compiled(Callback):
    """Compiles the calls of every denoiser and language model of a stage but the averages, which learn nothing.

    Their weights keep their names, so checkpoints are the same with and without. Results differ by rounding. A
    ValueError if the stage has neither, or if no compiled call was made in the first step, as where another method than
    that of `Network.pass_module` does the work.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        averaged = set(pl_module.averaged.modules()) if hasattr(pl_module, "averaged") else set()
        kinds = (Denoiser, TokenLM)
        networks = [each for each in pl_module.modules() if isinstance(each, kinds) and each not in averaged]
        if not networks:
            raise ValueError("compile is for denoisers and language models, and this stage has neither; leave it out")
        for network in networks:
            network.pass_module.compile()
        self._before: int | None = counters["frames"]["ok"]  # That torch compiled in this process.

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._before is None or not pl_module.between_steps:
            return
        if counters["frames"]["ok"] == self._before:
            raise ValueError("compile is true, but the first step made no compiled call; leave it out")
        self._before = None
