"""The files of the encoded cache: runs of clips, each file telling what it was made from and whole or not there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from melody_cm.data.audio_files import AudioProblem
from melody_cm.data.clips import SPLITS, Clip, Split
from melody_cm.data.encoded.clip_audio import clip_seconds
from melody_cm.storage import write_atomically

CLIPS_PER_SHARD = 128
SECONDS_PER_SHARD = 3600.0


@dataclass(frozen=True)
class Shard:
    """Clips first .. last - 1 of a split, which are encoded and kept together; `number` names the file."""

    number: int
    split: Split
    first: int
    last: int

    @property
    def file(self) -> str:
        """The name of its file in the folder of each output."""
        return f"{self.number:05d}.safetensors"


@dataclass(frozen=True)
class ShardReport:
    """What a shard's file says of itself.

    Attributes:
        made_from: the hash of all that decides its content.
        samples: of each good clip, by item.
        bad: why a clip was left out, by item.
    """

    made_from: str
    samples: dict[int, int]
    bad: dict[int, str]


def plan_shards(clips: Mapping[Split, Sequence[Clip]], seconds: float) -> list[Shard]:
    """Runs of at most 128 clips and about an hour: what a process holds in memory until the file is written.

    Args:
        clips: by split; of valid and test, the first `seconds` of each clip count.
    """
    shards: list[Shard] = []
    for split in SPLITS:
        for first, last in _runs(clips.get(split, ()), None if split == "train" else seconds):
            shards.append(Shard(len(shards), split, first, last))
    return shards


def write_shard(path: Path, tensors: dict[str, Tensor], report: ShardReport) -> None:
    """Write a shard's file; OSError if the disk is full, and then there is no file."""
    content = save(tensors, {"report": json.dumps(vars(report))})  # One entry: safetensors puts several in any order.
    write_atomically(path, lambda aside: _write_bytes(aside, content))


def read_report(path: Path) -> ShardReport | None:
    """What a shard's file says of itself, or None if there is no whole file."""
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
    except (FileNotFoundError, SafetensorError):
        return None
    report = json.loads(described.get("report", "null"))
    if report is None:
        return None
    samples = {int(item): count for item, count in report["samples"].items()}
    return ShardReport(report["made_from"], samples, {int(item): problem for item, problem in report["bad"].items()})


def key(split: Split, item: int, part: str) -> str:
    """The name of a clip's tensor."""
    return f"{split}.{item}.{part}"


def _runs(clips: Sequence[Clip], at_most: float | None) -> Iterator[tuple[int, int]]:
    first, total = 0, 0.0
    for item, clip in enumerate(clips):
        seconds = _seconds(clip) if at_most is None else at_most
        if item > first and (item - first == CLIPS_PER_SHARD or total + seconds > SECONDS_PER_SHARD):
            yield first, item
            first, total = item, 0.0
        total += seconds
    if len(clips):
        yield first, len(clips)


def _seconds(clip: Clip) -> float:
    try:
        return clip_seconds(clip)
    except AudioProblem:
        return 0.0


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
