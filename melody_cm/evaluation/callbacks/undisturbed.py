"""Looking at a training without leaving a trace in it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.pytorch import LightningModule


@contextmanager
def undisturbed(module: LightningModule) -> Iterator[None]:
    """The block runs in evaluation mode and without gradient; then, even after an error, every part of the module is in
    the mode it was in, and every global random stream (Python, numpy, torch on CPU and GPU) goes on where it was."""
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
