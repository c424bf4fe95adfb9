"""Gradients are clipped in every precision that the machines of configs/ train in."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from test_adversarial_stage import stage as adversarial_stage
from test_stage import Automatic, Tones

LIMIT = 1e-3


class Norms(Callback):
    """The norm of each optimizer's gradient that its step went by."""

    def __init__(self):
        self.norms: list[float] = []

    def on_train_start(self, trainer, module):
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self.note)

    def note(self, optimizer, args, kwargs):
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        self.norms.append(torch.cat(gradients).norm().item())


def norms(module, tmp_path, precision, **settings):
    found = Norms()
    trainer = Trainer(
        accelerator="cpu", max_steps=4, precision=precision, callbacks=[found], default_root_dir=tmp_path,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, datamodule=Tones(4))
    return found.norms


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped(tmp_path, precision):
    found = norms(Automatic(), tmp_path, precision, gradient_clip_val=LIMIT)
    assert found == pytest.approx([LIMIT] * 4, rel=0.01)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_of_both_adversaries_are_clipped(tmp_path, precision):
    found = norms(adversarial_stage(clip=LIMIT), tmp_path, precision)
    assert found == pytest.approx([LIMIT] * len(found), rel=0.01)
    assert len(found) == 8, "four steps of each"


def test_without_a_limit_gradients_stay_as_they_are(tmp_path):
    assert min(norms(Automatic(), tmp_path, "bf16-mixed")) > 10 * LIMIT
