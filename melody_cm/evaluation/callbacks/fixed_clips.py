"""The clips or prompts that every evaluation of a training is made on, shared out among its processes."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch

from melody_cm.batch import MusicBatch
from melody_cm.data import MusicDataModule, collate
from melody_cm.data.order import EVALUATION_EPOCH


class Share(NamedTuple):
    """Some of a process's clips: the batch, and the places of its clips among those of all processes."""

    places: list[int]
    batch: MusicBatch


class FixedClips(NamedTuple):
    """captions of the clips of all processes, and this process's own clips in batches."""

    captions: list[str]
    shares: list[Share]


def share_out(singles: Iterator[MusicBatch], batch_size: int, rank: int, num_processes: int) -> FixedClips:
    """Process `rank` gets every num_processes-th clip, none twice, and none at all where there are too few.

    Args:
        singles: the clips of all processes, batches of one.
        batch_size: clips at a time over all processes.
    """
    captions: list[str] = []
    own: list[tuple[int, MusicBatch]] = []
    for place, clip in enumerate(singles):
        captions += clip.captions
        if place % num_processes == rank:
            own.append((place, clip))
    size = max(1, batch_size // num_processes)
    parts = [own[start : start + size] for start in range(0, len(own), size)]
    return FixedClips(
        captions, [Share([place for place, _ in part], collate([clip for _, clip in part])) for part in parts]
    )


def held_back_clips(data: MusicDataModule, num_clips: int) -> Iterator[MusicBatch]:
    """The first clips of the validation split, real audio with their captions."""
    return islice(data.batches("valid", 1), num_clips)


def prompted_clips(data: MusicDataModule, prompts: Sequence[str]) -> Iterator[MusicBatch]:
    """Clips of the data's length of which nothing but the caption is known."""
    length = round(data.seconds * data.sample_rate)
    for item, prompt in enumerate(prompts):
        yield MusicBatch(
            item=torch.tensor([item]),
            epoch=torch.tensor([EVALUATION_EPOCH]),
            waveform=torch.zeros(1, 1, length),
            frame_mask=torch.ones(1, length, dtype=torch.bool),
            captions=[prompt],
        )
