"""Where networks compute and how precisely: one choice for every command; and what stays in fp32 whatever it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUANTIZATIONS = ("int8", "int4")
STATUS = Path("/proc/self/status")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Placement:
    """A device and a precision.

    In half precision the weights are halved and autocast decides operation by operation, so that what must be fp32 is.

    Attributes:
        device: where networks and their inputs are.
        precision: a key of `PRECISIONS`.
        quantization: of `QUANTIZATIONS`, in which language models sample; None for the precision's own weights.
    """

    device: torch.device
    precision: str = "fp32"
    quantization: str | None = None

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "fp32", quantization: str | None = None) -> "Placement":
        """The placement that a user names: auto (the best that is here), cpu, cuda, cuda:N or mps; fp32, bf16 or fp16;
        int8, int4 or None.

        Raises:
            ValueError: there is no such device here, no such precision, or no such quantization on the device.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}; give one of them")
        here = devices_here()
        name = here[0] if device == "auto" else device
        if name not in here:
            raise ValueError(f"there is no device {device!r} here; devices: auto, {', '.join(here)}")
        check_quantization(quantization, torch.device(name))
        return cls(torch.device(name), precision, quantization)

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> "Placement":
        """Where modules are, the lowest precision of their weights, and how they are quantized if they are."""
        found = nn.ModuleList(modules)
        kinds = {parameter.dtype for parameter in found.parameters()}
        device = next((x.device for each in (found.parameters(), found.buffers()) for x in each), torch.device("cpu"))
        precision = next((name for name in ("fp16", "bf16") if PRECISIONS[name] in kinds), "fp32")
        return cls(device, precision, next(filter(None, (getattr(x, "quantization", None) for x in found)), None))

    def moved(self, device: torch.device | str, dtype: torch.dtype | str | None) -> "Placement":
        """Another device, and another precision where one is given, both as in `choose` or as torch has them.

        Raises:
            ValueError: as `choose`, or a dtype that is not in `PRECISIONS`.
        """
        names = {known: name for name, known in PRECISIONS.items()} | {name: name for name in PRECISIONS}
        names[None] = self.precision
        if dtype not in names:
            raise ValueError(f"dtype {dtype} is none of {', '.join(PRECISIONS)}; give one of them")
        if isinstance(device, torch.device):
            return replace(self, device=device, precision=names[dtype])
        return Placement.choose(device, names[dtype], self.quantization)

    @property
    def name(self) -> str:
        """Of a folder for what is made so."""
        return f"{self.device.type}_{self.precision}"

    @property
    def dtype(self) -> torch.dtype:
        """Of most weights."""
        return PRECISIONS[self.precision]

    def put(self, modules: Iterable[nn.Module]) -> None:
        """Move modules there, and their weights to its precision; networks learn how they are to be quantized."""
        allow_tf32(self.device)
        for module in modules:
            module.to(self.device, self.dtype)
            if hasattr(module, "quantization"):
                module.quantization = self.quantization

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Networks that are placed so compute in here, without gradient."""
        with torch.no_grad(), ExitStack() as stack:
            if self.precision != "fp32":
                stack.enter_context(torch.autocast(self.device.type, self.dtype))
            yield

    def facts(self) -> dict[str, Any]:
        """What results and files say of it, as plain data; two that are equal may be compared."""
        on_gpu = self.device.type == "cuda"
        device = f"cuda ({torch.cuda.get_device_name(self.device)})" if on_gpu else self.device.type
        quantized = f" with {self.quantization} language models" if self.quantization else ""
        return {"device": device, "precision": self.precision + quantized, "tf32": on_gpu and uses_tf32()}


def check_quantization(quantization: str | None, device: torch.device) -> None:
    """Refuse what is no quantization, or one where its kernels are not.

    Raises:
        ValueError: it is.
    """
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(f"quantization {quantization!r} is none of {', '.join(QUANTIZATIONS)}; give one of them")
    if quantization and device.type != "cpu":
        raise ValueError(f"{quantization} works on a CPU, not on {device}; take the device cpu, or no quantization")


def devices_here() -> list[str]:
    """The devices that `Placement.choose` takes, the best one first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def highest_memory(device: torch.device) -> int | None:
    """The most bytes in use so far: of a CUDA device by tensors, elsewhere of the process; None where only Linux could
    tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def allow_tf32(device: torch.device) -> None:
    """Let fp32 matrix products of this process be rounded to TF32 on a GPU, as convolutions are."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def uses_tf32() -> bool:
    """Whether fp32 matrix products may be rounded to TF32."""
    return torch.get_float32_matmul_precision() != "highest"


def refuse_unlike_placements(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse to compare what two metadata of results say was made on unlike devices or in unlike precisions.

    Results that say nothing are of a time when all was computed on CPUs in fp32.

    Raises:
        ValueError: device, precision or TF32 differ.
    """
    one, other = (facts.get("placement") or Placement(torch.device("cpu")).facts() for facts in (first, second))
    names = [name for name in one | other if one.get(name) != other.get(name)]
    if names:
        unlike = "; ".join(f"{name} {one.get(name)!r} against {other.get(name)!r}" for name in names)
        raise ValueError(f"these results cannot be compared, they were made with {unlike}; make both alike")


def without_autocast(device: torch.device) -> torch.autocast:
    """What is computed in here on the device is not autocast."""
    # Of tensors on `meta`, autocast of the CPU is what counts.
    return torch.autocast(device.type if torch.amp.is_autocast_available(device.type) else "cpu", enabled=False)


@contextmanager
def in_fp32(device: torch.device) -> Iterator[None]:
    """What is computed in here on the device is neither autocast nor rounded to TF32."""
    with without_autocast(device), ExitStack() as stack:
        if device.type == "cuda" and uses_tf32():
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
        yield


def at_least_fp32(tensor: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 if it was."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Fp32Island(nn.Module):
    """Comes before a layer's class: its weights stay in fp32, and so does what it computes of one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        # A norm has no products that TF32 could round, and to a compiler that setting is a stop.
        with without_autocast(x.device) if isinstance(self, NORMS) else in_fp32(x.device):
            return super().forward(at_least_fp32(x))


def keep_fp32(layer: nn.Module) -> nn.Module:
    """Make a layer an `Fp32Island`, before any parametrization; returns it."""
    layer.__class__ = type(type(layer).__name__, (Fp32Island, type(layer)), {})
    return layer


def apply_keeping_fp32(root: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Do as `root._apply(change)`, but let no change halve buffers, norms and `Fp32Island`s."""

    def kept(tensor: Tensor) -> Tensor:
        changed = change(tensor)
        halved = changed.is_floating_point() and changed.itemsize < 4 <= tensor.itemsize
        return tensor.to(changed.device) if halved else changed

    def weights(tensor: Tensor) -> Tensor:
        return change(tensor) if isinstance(tensor, nn.Parameter) else kept(tensor)

    islands = [module for module in root.modules() if isinstance(module, (Fp32Island, *NORMS))]
    whole = {id(part) for island in islands for part in island.modules()}
    for module in root.modules():
        # With `recurse` off a module sees to itself alone, and does what else its own class does.
        module._apply(kept if id(module) in whole else weights, recurse=False)
