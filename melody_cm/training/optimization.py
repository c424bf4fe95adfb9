"""AdamW with warm-up and cosine decay, one for all stages."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


@dataclass
class Optimization:
    """How a stage learns.

    Args:
        learning_rate: the peak, reached after `warmup_steps`.
        betas, weight_decay: of AdamW; biases, gains (also those of weight norm, (n, 1, 1)) and other vectors do not
            decay.
        warmup_steps: steps of linear warm-up from 0.
        final_ratio: where the cosine ends, as a share of the peak; 1 keeps the rate constant after warm-up.
    """

    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 0
    final_ratio: float = 1.0

    def scale(self, step: int, total_steps: int) -> float:
        """The learning rate at `step` as a share of the peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_ratio + (1 - self.final_ratio) * cosine

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int) -> tuple[AdamW, LambdaLR]:
        """The optimizer and its schedule, to be advanced once a step."""
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in learning if not _is_vector(parameter)]
        rest = [parameter for parameter in learning if _is_vector(parameter)]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=True)
        return optimizer, LambdaLR(optimizer, lambda step: self.scale(step, total_steps))


def _is_vector(parameter: nn.Parameter) -> bool:
    return all(size == 1 for size in parameter.shape[1:])
