"""Sums and batch statistics over all processes of a training, through which gradients flow, on CPU and GPU alike.

torch's own SyncBatchNorm works on GPUs alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional


def num_processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def summed(value: Tensor) -> Tensor:
    """The sum of `value` over all processes; every process must call this at the same point.

    The gradient of a process's loss reaches the values of all. DDP averages over processes: so a loss that all have in
    common counts once, and one that adds up over processes is to be multiplied by their number.
    """
    return functional.all_reduce(value) if num_processes() > 1 else value


class SharedBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d that in training sees the batch of all processes (Ioffe and Szegedy, arXiv 1502.03167, algorithm
    1): several processes then learn what one would. Same names and shapes of weights."""

    def forward(self, input: Float[Tensor, "b c *axes"]) -> Float[Tensor, "b c *axes"]:
        if not self.training or num_processes() == 1:
            return super().forward(input)
        values, axes = input.float(), [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        count = summed(values.new_tensor(values.numel() / values.shape[1]))
        mean = summed(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = summed(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), self.momentum)
        scale = self.weight.float() * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.float().view(shape)).to(input.dtype)


def share_batch_norms(network: nn.Module) -> None:
    """Let every plain nn.BatchNorm1d inside a network see the batch of all processes; weights stay as they are."""
    for module in network.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = SharedBatchNorm1d
