"""Exponential moving averages of trained networks: what is validated, sampled from and exported."""

import copy

import torch
from torch import Tensor, nn

from melody_cm.interfaces import Network


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy that will follow `network`: no gradient, evaluation mode; frozen parts inside are shared, not copied.

    The copy of a frozen network is not frozen itself.
    """
    inside = (module for module in network.modules() if module is not network)
    shared = {id(module): module for module in inside if isinstance(module, Network) and module.frozen}
    copied = copy.deepcopy(network, shared)
    if isinstance(copied, Network):
        copied.stage = copied.origin = None
    return copied.requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network for floating tensors; all others are copied.

    Once a step of the optimizer, never once a micro-batch. Frozen stages are left alone.
    """
    new = network.state_dict()
    old = average.state_dict()
    floating = [name for name, value in old.items() if value.is_floating_point()]
    if floating:
        torch._foreach_lerp_([old[name] for name in floating], [new[name] for name in floating], 1 - decay)
    for name in old.keys() - set(floating):
        old[name].copy_(new[name])


def warmed_decay(decay: float, step: int | Tensor) -> float:
    """A decay that starts low, so that a short training's average forgets the untrained network: (1 + n) / (10 + n)."""
    return min(decay, (1 + float(step)) / (10 + float(step)))
