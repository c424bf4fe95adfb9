"""How much memory a piece of work takes."""

import ctypes
import gc
from pathlib import Path
from types import TracebackType

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The most bytes that the work inside the block held beyond what was there before.

    On an accelerator that of its allocator; else resident memory of the process, which Linux alone can tell.

    Args:
        device: where the work happens.

    Attributes:
        bytes: None where it cannot be told, or before the block has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif RESET.exists():
            give_back()
            RESET.write_text("5")  # Sets the high-water mark back to what is resident now.
        self._before = self._peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        after = self._peak()
        if self._before is not None and after is not None:
            self.bytes = after - self._before

    def _peak(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if not STATUS.exists():
            return None
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None


def give_back() -> None:
    """Return freed memory to the system; work that took it again would seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Of glibc alone.
    if trim is not None:
        trim(0)
