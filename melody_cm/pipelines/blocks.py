"""Audio that is made and given away block by block."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from melody_cm.interfaces import GeneratedAudio


def without_gradient(make_blocks: Callable[[], Iterator[Tensor]]) -> Iterator[Tensor]:
    """The blocks, made without gradient; whoever takes them keeps the setting it had."""
    with torch.no_grad():
        blocks = make_blocks()
    while True:
        with torch.no_grad():
            block = next(blocks, None)
        if block is None:
            return
        yield block


def one_ahead(blocks: Iterator[GeneratedAudio]) -> Iterator[GeneratedAudio]:
    """The blocks, of which a thread makes the next one while the caller plays the last; never more than one ahead."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        following = worker.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = worker.submit(next, blocks, None)
            yield block


def joined(blocks: Sequence[GeneratedAudio]) -> GeneratedAudio:
    """Blocks of the same clips one after another; their timings add up."""
    parts = {part: None for block in blocks for part in block.timings}
    timings = {part: sum(block.timings.get(part, 0.0) for block in blocks) for part in parts}
    return GeneratedAudio(torch.cat([block.waveform for block in blocks], dim=-1), blocks[0].sample_rate, timings)
