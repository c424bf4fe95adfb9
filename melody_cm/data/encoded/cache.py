"""What was encoded before, read back: one folder an output, whose index.json says what it was made from."""

import math
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from melody_cm.data.audio_files import AudioProblem
from melody_cm.data.clips import Split
from melody_cm.data.encoded.outputs import FrozenOutput
from melody_cm.data.encoded.shards import key
from melody_cm.data.encoded.windows import Crop
from melody_cm.storage import hash_file, read_json

VERSION = 1
INDEX = "index.json"
OPEN_SHARDS = 64


class EncodedOutput:
    """One output of one frozen encoder for all clips of a corpus, on disk.

    Args:
        folder: what `write_index` declared whole.

    Attributes:
        name, stage, kind, frame_samples: as in `FrozenOutput`.

    Raises:
        ValueError: a shard is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        index = read_index(self.folder)
        self.stage, self.kind, self.frame_samples = index["stage"], index["kind"], index["frame_samples"]
        self.name = f"{self.stage}/{self.kind}"
        self.splits = list(index["samples"])
        self._samples = {split: np.array(counts, dtype=np.int64) for split, counts in index["samples"].items()}
        self._bad = index["bad"]
        self._shards = {split: [s for s in index["shards"] if s["split"] == split] for split in self.splits}
        self._firsts = {split: [shard["first"] for shard in shards] for split, shards in self._shards.items()}
        self._hashes = {shard["file"]: shard["hash"] for shard in index["shards"]}
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._checked: set[str] = set()
        if damaged := damaged_shards(self.folder):
            raise ValueError(f"{damaged[0]} is missing or cut short; run `melody-cm data encode`, which makes it again")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_checked": set()}  # Each worker process opens its own files.

    def samples(self, split: Split, item: int) -> int:
        """The clip's length in samples.

        Raises:
            AudioProblem: it was bad when it was to be encoded.
        """
        count = int(self._samples[split][item])
        if not count:
            raise AudioProblem(self._bad[split][str(item)])
        return count

    def fields(self, split: Split, item: int, crop: Crop, caption: int) -> dict[str, Any]:
        """The fields of a `MusicBatch` of one that this output fills."""
        if self.kind == "posterior":
            frames = crop.frames(self.frame_samples)
            mean, std = (self._slice(split, item, part)[:, frames] for part in ("mean", "std"))
            return {"latent_mean": mean[None].float(), "latent_std": std[None].float()}
        if self.kind == "codes":
            codes = self._slice(split, item, "codes")
            rows = codes[:, crop.frames(self.frame_samples)] if self.frame_samples else codes[crop.nearest()]
            return {"codes": {self.stage: rows[None].long()}}
        row = caption if self.kind == "text_embedding" else crop.nearest()
        return {self.kind: self._slice(split, item, "embedding")[row][None]}

    def _slice(self, split: Split, item: int, part: str) -> Any:
        """A tensor of which only what is indexed is read from disk."""
        file = self._shards[split][bisect_right(self._firsts[split], item) - 1]["file"]
        return self._handle(file).get_slice(key(split, item, part))

    def _handle(self, file: str) -> Any:
        if file not in self._open:
            self._check(file)
            self._open[file] = safe_open(self.folder / file, framework="pt")
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        return self._open[file]

    def _check(self, file: str) -> None:
        """Compare a shard with what was written, once a process: wrong numbers would be trained on unnoticed."""
        path = self.folder / file
        if file not in self._checked and (not path.is_file() or hash_file(path) != self._hashes[file]):
            raise ValueError(f"{path} is damaged; run `melody-cm data encode`, which makes it again")
        self._checked.add(file)


class EncodedClips:
    """Everything that a recipe's frozen encoders made of a corpus before.

    Args:
        outputs: what is there.
        reads_waveform: whether the waveform is needed as well.

    Attributes:
        grid: training crops start on multiples of so many samples, where all outputs have a frame.
    """

    def __init__(self, outputs: list[EncodedOutput], reads_waveform: bool) -> None:
        self.outputs = outputs
        self.reads_waveform = reads_waveform
        self.grid = math.lcm(*(output.frame_samples or 1 for output in outputs))

    def samples(self, split: Split, item: int) -> int:
        """The clip's length in samples; AudioProblem if it is bad."""
        return max(output.samples(split, item) for output in self.outputs)

    def fields(self, split: Split, item: int, crop: Crop, caption: int) -> dict[str, Any]:
        """The fields of a `MusicBatch` of one that need not be computed any more."""
        filled: dict[str, Any] = {}
        for output in self.outputs:
            for name, value in output.fields(split, item, crop, caption).items():
                filled[name] = {**filled.get(name, {}), **value} if isinstance(value, dict) else value
        return filled


def identity(output: FrozenOutput, data_fingerprint: str) -> dict[str, Any]:
    """What decides an output's numbers: it is stale when any of this differs."""
    return {"version": VERSION, "data": data_fingerprint, "weights": output.weights}


def staleness(folder: Path, expected: dict[str, Any]) -> list[str]:
    """What an index was made from that is different now, as "name: theirs -> ours"."""
    index = read_index(folder)
    pairs = {name: (index.get(name), expected[name]) for name in ("version", "data")}
    theirs, ours = index.get("weights") or {}, expected["weights"]
    pairs |= {f"weights of {stage}": (theirs.get(stage), ours.get(stage)) for stage in sorted({*theirs, *ours})}
    return [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]


def damaged_shards(folder: Path, by_content: bool = False) -> list[Path]:
    """The shards of an index that are not on disk as long as they were written; `by_content` reads them through."""
    damaged = []
    for shard in read_index(folder)["shards"]:
        path = folder / shard["file"]
        whole = path.is_file() and path.stat().st_size == shard["bytes"]
        if not whole or (by_content and hash_file(path) != shard["hash"]):
            damaged.append(path)
    return damaged


def read_index(folder: Path) -> dict[str, Any]:
    """The index of an output.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return read_json(folder / INDEX)
    except ValueError as error:
        raise ValueError(f"{folder / INDEX} is damaged; run `melody-cm data encode`, which makes it again") from error
