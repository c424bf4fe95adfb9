"""An accelerator that no machine needs: tensors on the device `meta` that have values all the same.

A tensor on it cannot meet one of the CPU, as on a GPU, and every wait for it is counted: reading a number, copying to
the CPU, and operations whose result has a size that depends on values.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default}
# Of a size that only the values tell.
SIZED = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Elsewhere(torch.Tensor):
    """A tensor of the stand-in; `inner` holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __init__(self, inner: torch.Tensor) -> None:
        pass

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner!r})"

    def tolist(self):
        return self.cpu().tolist()

    def new_tensor(self, values, **settings):
        return torch.tensor(values, **{"dtype": self.dtype, "device": self.device} | settings)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, None)


def run(func, args, kwargs, waits):
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    here = any(isinstance(leaf, Elsewhere) for leaf in tensors)
    target = kwargs.get("device")
    target = None if target is None else torch.device(target)
    if not here and target != DEVICE:
        return func(*args, **kwargs)
    moves = func in (aten._to_copy.default, aten.copy_.default, aten.copy.default)
    if here and not moves:
        strays = [each for each in tensors if not isinstance(each, Elsewhere) and each.ndim]
        if func in INDEXED:
            strays = [each for each in strays if each.dtype not in (torch.int64, torch.bool)]
        if strays:
            raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(strays[0].shape)}, meets one on the device")
    if waits is not None and here:
        note(func, args, kwargs, target, tensors, waits)
    plain = tree_map(lambda x: x.inner if isinstance(x, Elsewhere) else x, (args, dict(kwargs)))
    inner_args, inner_kwargs = plain
    if target == DEVICE:
        inner_kwargs["device"] = torch.device("cpu")
        inner_kwargs.pop("pin_memory", None)
    out = func(*inner_args, **inner_kwargs)
    if func is aten._to_copy.default and target is not None and target != DEVICE:
        return out
    if func is aten.copy_.default and not isinstance(args[0], Elsewhere):
        return args[0]
    wrapped = tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def note(func, args, kwargs, target, tensors, waits):
    fetched = func is aten._to_copy.default and target is not None and target != DEVICE
    if func in READS:
        waits["read"] += 1
    elif fetched or (func is aten.copy_.default and not isinstance(args[0], Elsewhere)):
        waits["copy to the CPU"] += 1
    elif func in SIZED or (func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None):
        waits["size of a result"] += 1
    elif func in INDEXED and any(each is not None and each.dtype == torch.bool for each in args[1]):
        waits["boolean index"] += 1


class StandIn(TorchDispatchMode):
    """While it is entered, `meta` is an accelerator; `waits` counts what made the CPU wait for it, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, self.waits)

    def __enter__(self) -> "StandIn":
        self._tensor = torch.tensor

        def tensor(values, *, device=None, **settings):  # torch's own has no values on `meta`.
            made = self._tensor(values, **settings)
            return made if device is None else made.to(device)

        torch.tensor = tensor
        self._fused = optimizer._get_fused_kernels_supported_devices
        optimizer._get_fused_kernels_supported_devices = lambda: [*self._fused(), DEVICE.type]
        return super().__enter__()

    def __exit__(self, *error) -> None:
        torch.tensor, optimizer._get_fused_kernels_supported_devices = self._tensor, self._fused
        super().__exit__(*error)

    @contextmanager
    def counting(self) -> Iterator[Counter]:
        """The waits of what happens inside."""
        before = Counter(self.waits)
        counted: Counter[str] = Counter()
        yield counted
        counted.update(self.waits - before)


class StandInAccelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


def strategy() -> SingleDeviceStrategy:
    """For Lightning's trainer."""
    return SingleDeviceStrategy(DEVICE, StandInAccelerator())
