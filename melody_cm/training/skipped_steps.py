"""Steps with a loss or a gradient that is not finite: left out, written down, and soon the end of the training."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.training.lifecycle import first_spoilt, remedy
from melody_cm.training.watch import gradient_norm

log = logging.getLogger(__name__)
FILE = "skipped.jsonl"
MOST_IN_A_ROW = 10


class SkippedSteps:
    """Watches one training, all of whose processes leave out the same steps; `count` them so far, across resumes.

    What is left out is written to `skipped.jsonl` in the stage's folder: the step, the terms of the loss that were not
    finite, and the clips of the processes where they were (of all, if only the gradient was not).
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0
        self._last = -1
        self._noted: list[tuple[Tensor, dict[str, Tensor]]] = []

    def note(self, batch: MusicBatch, terms: Mapping[str, Tensor]) -> None:
        """Remember what the coming step of an optimizer learns from."""
        self._noted.append((batch.item, {name: term.detach() for name, term in terms.items()}))

    def check(self, module: LightningModule, optimizer: Any) -> None:
        """Take the gradients away, with which the optimizer's step does nothing, if they or the loss are not finite; a
        ValueError after too many steps in a row.

        To be called by all processes before each step of an optimizer, with the gradients of the whole batch.
        """
        noted, self._noted = self._noted, []
        values = {name: torch.stack([terms[name].float() for _, terms in noted]).sum() for name in noted[0][1]}
        # A gradient scaler leaves out what overflows itself, and finds its scale so.
        scaled = getattr(module.trainer.precision_plugin, "scaler", None) is not None
        learning = () if scaled else (each for group in optimizer.param_groups for each in group["params"])
        checked = [*values.values(), gradient_norm(learning).to(module.device)]
        finite = torch.stack(checked).isfinite().tolist()  # All at once: each reading waits for the GPU.
        spoilt_terms = [name for name, good in zip(values, finite, strict=False) if not good]
        spoilt = not all(finite)
        if module.trainer.world_size > 1:
            spoilt = module.trainer.strategy.reduce_boolean_decision(spoilt, all=False)
        if not spoilt:
            self._in_a_row = self._in_a_row if self._last == int(module.steps_taken) else 0
            return
        optimizer.zero_grad(set_to_none=True)
        clips = self._clips(module, torch.cat([item for item, _ in noted]), bool(spoilt_terms))
        self._record(module, spoilt_terms, clips)

    def _record(self, module: LightningModule, terms: list[str], clips: list[str]) -> None:
        step, folder = int(module.steps_taken), Path(module.trainer.default_root_dir)
        if step == self._last:  # The other optimizer of the same step.
            return
        self.count, self._in_a_row, self._last = self.count + 1, self._in_a_row + 1, step
        cause = f"the loss term {', '.join(terms)}" if terms else "the gradient"
        if module.trainer.is_global_zero:
            log.warning("step %d is left out: %s was not finite; see %s", step + 1, cause, folder / FILE)
            with (folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step + 1, "terms": terms, "clips": clips}, ensure_ascii=False) + "\n")
        if self._in_a_row < min(MOST_IN_A_ROW, max(1, module.trainer.max_steps)):
            return
        what = f"{self._in_a_row} steps in a row, up to step {step + 1}, were left out because"
        if weight := first_spoilt(module.trained.state_dict()):
            raise ValueError(f"{what} the weight {weight} is not finite; {remedy(module.trainer)}")
        raise ValueError(
            f"{what} {cause} was not finite, the last with the clips {', '.join(clips[:8])}; look at them with "
            f"`melody-cm data check`, or {remedy(module.trainer)}; all are in {folder / FILE}"
        )

    @staticmethod
    def _clips(module: LightningModule, items: Tensor, here: bool) -> list[str]:
        """The clips of the processes whose loss was not finite, or of all, by their files and rows."""
        items = items.to(module.device)
        found = module.all_gather(items if here else torch.full_like(items, -1)).flatten().tolist()
        if max(found) < 0:
            found = module.all_gather(items).flatten().tolist()
        split = getattr(module.trainer.datamodule, "split_clips", None)
        clips = split("train") if split else None
        return [f"item {item}" if clips is None else clips[item].where for item in found if item >= 0]
