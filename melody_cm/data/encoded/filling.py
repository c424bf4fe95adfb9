"""Encoding a corpus from beginning to end: what is there is kept, what is missing is made, the index comes last."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from melody_cm.data.datamodule import MusicDataModule
from melody_cm.data.encoded.cache import identity
from melody_cm.data.encoded.outputs import FrozenOutput
from melody_cm.data.encoded.processes import devices, make_all
from melody_cm.data.encoded.shards import Shard
from melody_cm.data.encoded.writing import (
    EncodingJob,
    Summary,
    full_disk_explained,
    is_current,
    made_from,
    plan,
    prepare,
    write_index,
)


def unfinished(
    job: EncodingJob, outputs: Sequence[FrozenOutput], fingerprint: str, again: Callable[[FrozenOutput], bool]
) -> list[FrozenOutput]:
    """Those of a recipe's outputs that are not whole, or are to be made `again`; their folders are made ready.

    Raises:
        ValueError: one is whole, but made from something else.
    """
    wanted = []
    for output in outputs:
        folder, expected = job.folder / output.name, identity(output, fingerprint)
        if again(output) or not is_current(folder, expected):
            prepare(folder, expected, again(output))
            wanted.append(output)
    return wanted


def fill(
    job: EncodingJob,
    wanted: Sequence[FrozenOutput],
    outputs: Sequence[FrozenOutput],
    data: MusicDataModule,
    fingerprint: str,
    device: str = "cpu",
    processes: int | None = None,
    on_progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Summary:
    """Make what is missing of some outputs and declare them whole.

    Args:
        job: which run, recipe and corpus.
        wanted: of `outputs`, those to make.
        outputs: all that the recipe's frozen encoders give: their frames decide where windows begin.
        data: the clips; fingerprint: theirs.
        device, processes: as in `devices`.
        on_progress: called with the clips that are done and their total, at the start and after each shard.
    """
    expected = {output.name: identity(output, fingerprint) for output in wanted}
    shards = plan(data)
    job = replace(job, made_from={name: made_from(each, outputs, shards) for name, each in expected.items()})
    todo = [shard for shard in shards if job.missing(shard)]
    total = _clips(shards)
    left = list(todo)
    on_progress(total - _clips(left), total)

    def on_shard(shard: Shard) -> None:
        left.remove(shard)
        on_progress(total - _clips(left), total)

    with full_disk_explained(job.folder):
        if todo:
            make_all(job, todo, devices(device, processes, len(todo)), on_shard)
        summaries = [write_index(job.folder / each.name, each, expected[each.name], shards) for each in wanted]
    return summaries[0]


def _clips(shards: Sequence[Shard]) -> int:
    return sum(shard.last - shard.first for shard in shards)
