"""Filling the encoded cache: shards in several processes, each whole or not there, and an index at the very end."""

import errno
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from melody_cm.data.clips import Split
from melody_cm.data.datamodule import MusicDataModule
from melody_cm.data.encoded.cache import INDEX, damaged_shards, read_index, staleness
from melody_cm.data.encoded.encoding import ShardEncoding
from melody_cm.data.encoded.outputs import FrozenOutput, frozen_outputs
from melody_cm.data.encoded.shards import Shard, ShardReport, plan_shards, read_report, write_shard
from melody_cm.storage import build, enter_run, hash_data, hash_file, write_text

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class EncodingJob:
    """What a process must know to encode shards; plain data, so that it can be sent to one.

    Attributes:
        run: folder of the run whose finished stages encode.
        slots: the parts of the recipe's model that hold frozen encoders, as configurations.
        data: the arguments of the data module, its corpus as a configuration.
        folder: of the cache; each output has its own folder in it.
        made_from: the hash of all that decides an output's shards, by the output's name; only these are made.
    """

    run: Path
    slots: list[dict[str, Any]]
    data: dict[str, Any]
    folder: Path
    made_from: dict[str, str]

    def missing(self, shard: Shard) -> list[str]:
        """The outputs of which there is no whole file of this shard, made from the same."""
        return [name for name, made_from in self.made_from.items() if not self._is_done(name, shard, made_from)]

    def open(self, device: str) -> "Encoding":
        """Everything that the work needs, in this process."""
        enter_run(self.run)
        data = MusicDataModule(**{**self.data, "corpus": build(self.data["corpus"])})
        outputs = frozen_outputs(nn.ModuleList(build(self.slots)), data.sample_rate)
        return Encoding(self, data, outputs, device)

    def _is_done(self, name: str, shard: Shard, made_from: str) -> bool:
        report = read_report(self.folder / name / shard.file)
        return report is not None and report.made_from == made_from


class Encoding:
    """A job, opened: corpus and encoders are in memory."""

    def __init__(self, job: EncodingJob, data: MusicDataModule, outputs: Sequence[FrozenOutput], device: str) -> None:
        self.job = job
        self.data = data
        self.outputs = outputs
        self.device = device
        self.grid = grid_of(outputs)

    def make(self, shard: Shard) -> None:
        """Encode a shard and write the file of each output that lacks it."""
        wanted = [output for output in self.outputs if output.name in self.job.missing(shard)]
        encoding = ShardEncoding(wanted, self.data.sample_rate, self.data.seconds, self.grid, self.device)
        clips = self.data.split_clips(shard.split)[shard.first : shard.last]
        tensors, samples, bad = encoding.encode(shard.split, clips, shard.first)
        for output in wanted:
            report = ShardReport(self.job.made_from[output.name], samples, bad)
            write_shard(self.job.folder / output.name / shard.file, tensors[output.name], report)


@dataclass(frozen=True)
class Summary:
    """What was encoded: the number of clips, and why each of the others was left out."""

    clips: int
    bad: list[str]


def plan(data: MusicDataModule) -> list[Shard]:
    """All shards of a data module's clips."""
    return plan_shards(data.corpus.splits(), data.seconds)


def made_from(expected: dict[str, Any], outputs: Sequence[FrozenOutput], shards: Sequence[Shard]) -> str:
    """The hash of all that decides the content of an output's shards; `outputs`, with it, decide the windows."""
    ranges = [[shard.split, shard.first, shard.last] for shard in shards]
    return hash_data([expected, grid_of(outputs), ranges])


def grid_of(outputs: Sequence[FrozenOutput]) -> int:
    """Samples that all frame sizes divide: windows begin on multiples of it."""
    return math.lcm(*(output.frame_samples or 1 for output in outputs))


def is_current(folder: Path, expected: dict[str, Any]) -> bool:
    """Whether an output is whole (its index is there, and all that it names) and made from what it would be now."""
    return _has_index(folder) and not staleness(folder, expected) and not damaged_shards(folder, by_content=True)


def prepare(folder: Path, expected: dict[str, Any], again: bool) -> None:
    """Make an output's folder ready to be filled.

    Raises:
        ValueError: it holds what was made from something else, and `again` does not allow to replace it.
    """
    if again:
        shutil.rmtree(folder, ignore_errors=True)
    if _has_index(folder):
        if changed := staleness(folder, expected):
            raise ValueError(f"{folder} was encoded from something else: {'; '.join(changed)}; replace it with --again")
        for damaged in damaged_shards(folder, by_content=True):
            damaged.unlink(missing_ok=True)
    (folder / INDEX).unlink(missing_ok=True)  # Whole is what has an index.
    for remains in folder.glob(".*.part"):
        remains.unlink()


def write_index(folder: Path, output: FrozenOutput, expected: dict[str, Any], shards: Sequence[Shard]) -> Summary:
    """Declare an output whole: the last file that is written.

    Raises:
        ValueError: a shard is not whole.
    """
    samples: dict[Split, list[int]] = {}
    bad: dict[Split, dict[int, str]] = {}
    for shard in shards:
        report = read_report(folder / shard.file)
        if report is None:
            raise ValueError(f"{folder / shard.file} is not whole; the same command makes it again")
        counts = [report.samples.get(item, 0) for item in range(shard.first, shard.last)]
        samples.setdefault(shard.split, []).extend(counts)
        bad.setdefault(shard.split, {}).update(report.bad)
    files = [{**vars(shard), "file": shard.file, **_content(folder / shard.file)} for shard in shards]
    index = {
        **expected,
        "stage": output.network.stage,
        "kind": output.kind,
        "frame_samples": output.frame_samples,
        "bad": bad,
        "shards": files,
        "samples": samples,
    }
    write_text(folder / INDEX, json.dumps(index))
    for stray in set(folder.glob("*.safetensors")) - {folder / shard.file for shard in shards}:
        stray.unlink()
    problems = [problem for several in bad.values() for problem in several.values()]
    return Summary(sum(map(len, samples.values())) - len(problems), problems)


def _has_index(folder: Path) -> bool:
    """Whether there is an index that can be read; a damaged one counts as none."""
    try:
        return (folder / INDEX).is_file() and bool(read_index(folder))
    except ValueError:
        return False


def _content(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "hash": hash_file(path)}


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Say in one line what a full disk means here."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OSError(
                f"{folder}: {error.strerror}; the shards written so far are kept and nothing is half-written: make "
                "room, then the same command goes on"
            ) from error
        raise
