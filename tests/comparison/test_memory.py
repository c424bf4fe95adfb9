import sys

import pytest
import torch

from melody_cm.comparison.costs import peak_memory

MEBIBYTE = 2**20
PIECES, SIZE = 400, 25000  # 100 kB each: small enough to come from the heap, which keeps what is freed.

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the resident memory of a process")


def work():
    return sum(piece.sum() for piece in [torch.ones(SIZE) for _ in range(PIECES)])


def test_memory_that_was_held_before_is_counted_again():
    kept = [torch.ones(SIZE) for _ in range(PIECES)]
    last = torch.ones(SIZE)  # Holds the end of the heap, so that it does not shrink by itself.
    del kept
    assert peak_memory(work, torch.device("cpu")) == pytest.approx(4 * PIECES * SIZE, abs=10 * MEBIBYTE)
    assert last.sum() == SIZE


def test_work_without_memory_takes_none():
    assert peak_memory(lambda: None, torch.device("cpu")) < MEBIBYTE
