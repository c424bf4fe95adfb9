"""The encoded cache on disk, and clips read from it: a folder for each output, in it a file for each good clip, and an
index.json.

The index says what the output was made from and, once it is whole, which clips are bad.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from melody_cm.data.audio_files import AudioProblem
from melody_cm.data.clips import Clip, Split
from melody_cm.data.dataset import MusicDataset, audible_start
from melody_cm.data.encoded.outputs import FrozenOutput, frozen_outputs, has_live_encoder, value_windows
from melody_cm.storage import hash_data, read_keys

VERSION = 2
INDEX = "index.json"


class Crop(NamedTuple):
    """What a training or evaluation step sees of a clip: `length` samples from `start`, of a clip of `clip` samples."""

    start: int
    length: int
    clip: int

    def frames(self, frame_samples: int) -> slice:
        """The frames of an output with frames."""
        first = self.start // frame_samples
        return slice(first, first + -(-self.length // frame_samples))

    def nearest_window(self) -> int:
        """The window whose one value stands for the crop."""
        starts = value_windows(self.clip, self.length)
        return min(range(len(starts)), key=lambda index: abs(starts[index] - self.start))


class EncodedOutput:
    """One output of one frozen encoder for all clips of a corpus, whole in a folder; its attributes are as in
    `FrozenOutput`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = read_index(folder)
        self.stage, self.kind, self.frame_samples = index["stage"], index["kind"], index["frame_samples"]
        self.name = f"{self.stage}/{self.kind}"
        self.bad: dict[str, str] = index["bad"]

    def open(self, split: Split, item: int) -> Any:
        """The open file of a clip; its metadata says how many `samples` the clip has. An AudioProblem if the clip was
        bad when it was to be encoded, a ValueError if the file is missing or cut short."""
        if problem := self.bad.get(clip_name(split, item)):
            raise AudioProblem(problem)
        path = clip_file(self.folder, split, item)
        file = open_whole(path)
        if file is None:
            raise ValueError(f"{path} is missing or cut short; run `melody-cm data encode`, which makes it again")
        return file

    def fields(self, file: Any, crop: Crop, caption: int) -> dict[str, Any]:
        """The fields of a `MusicBatch` of one that this output fills."""
        row = caption if self.kind == "text_embedding" else crop.nearest_window()
        place = (slice(None), crop.frames(self.frame_samples)) if self.frame_samples else row
        read = {name: file.get_slice(name)[place][None] for name in list(file.keys())}
        if self.kind == "codes":
            return {"codes": {self.stage: read["codes"].long()}}
        return {name: value.float() for name, value in read.items()}


class EncodedClips(NamedTuple):
    """Everything that a recipe's frozen encoders made of a corpus before, and whether waveforms are read as well."""

    outputs: list[EncodedOutput]
    reads_waveform: bool


class EncodedDataset(MusicDataset):
    """Clips of a split whose encoded forms are read instead of, or beside, their sound; `settings` are those of
    `MusicDataset`.

    A training crop is that of `MusicDataset`, moved back to where all encoded outputs have a frame: to multiples of
    `grid` samples. A clip that was bad when it was to be encoded is left out whole.
    """

    def __init__(self, encoded: EncodedClips, split: Split, *settings: Any) -> None:
        super().__init__(*settings)
        self.encoded = encoded
        self.split = split
        self.grid = math.lcm(*(output.frame_samples or 1 for output in encoded.outputs))

    def sound_fields(self, clip: Clip, epoch: int, item: int, caption: int) -> dict[str, Any]:
        files = [output.open(self.split, item) for output in self.encoded.outputs]
        crop = self.encoded_crop(epoch, item, int(files[0].metadata()["samples"]))
        fields: dict[str, Any] = {"frame_mask": (torch.arange(crop.length) < crop.clip - crop.start)[None], "codes": {}}
        for output, file in zip(self.encoded.outputs, files, strict=True):
            read = output.fields(file, crop, caption)
            fields |= read | {"codes": fields["codes"] | read.get("codes", {})}
        return fields | {"waveform": self._waveform(clip, crop) if self.encoded.reads_waveform else None}

    def encoded_crop(self, epoch: int, item: int, samples: int) -> Crop:
        """The crop of a clip of so many samples, on the grid."""
        length = round(self.seconds * self.sample_rate)
        if not self.random_crop or samples <= length:
            return Crop(0, length, min(samples, length))
        start = int(self.crop_place(epoch, item) * (samples - length))
        return Crop(start // self.grid * self.grid, length, samples)

    def _waveform(self, clip: Clip, crop: Crop) -> Tensor:
        start = clip.start if self.random_crop else audible_start(clip, self.seconds)
        first = round(start * self.sample_rate) + crop.start
        seconds = min(crop.length, crop.clip - crop.start) / self.sample_rate
        return self.read_waveform(clip, first / self.sample_rate, seconds)[0]


def encoded_folder(run: Path, data: dict[str, Any]) -> Path:
    """Where what is encoded of this corpus, at this rate and length, is kept; stages that agree on them share it."""
    return Path(run) / "encoded" / hash_data([data["corpus"], data["sample_rate"], float(data["seconds"])])


def clip_name(split: Split, item: int) -> str:
    """By which the index knows a clip."""
    return f"{split}/{item}"


def clip_file(folder: Path, split: Split, item: int) -> Path:
    """The file of a clip in the folder of an output."""
    return folder / split / f"{item // 1000:04d}" / f"{item:07d}.safetensors"


def open_whole(path: Path) -> Any:
    """The open file of a clip, or None if it is missing or cut short."""
    try:
        return safe_open(path, framework="pt")
    except (FileNotFoundError, SafetensorError):
        return None


def read_index(folder: Path) -> dict[str, Any]:
    """The index of an output, empty if it has none; a ValueError if it is damaged."""
    if not (folder / INDEX).is_file():
        return {}
    index = read_keys(folder / INDEX)
    whole = {"stage": str, "kind": str, "frame_samples": int | None, "weights": dict, "bad": dict}
    known = {"bad": {}, **index}
    if not all(isinstance(known.get(name, ...), kind) for name, kind in whole.items()):
        raise ValueError(f"{folder / INDEX} is damaged; run `melody-cm data encode` with --again")
    return index


def is_whole(index: dict[str, Any]) -> bool:
    """Whether the output with this index was encoded to its end."""
    return "bad" in index


def identity(output: FrozenOutput, data_fingerprint: str) -> dict[str, Any]:
    """What an output is and what its numbers depend on: the index of one that is not whole yet."""
    made_from = {"version": VERSION, "data": data_fingerprint, "weights": output.weights}
    return {**made_from, "stage": output.network.stage, "kind": output.kind, "frame_samples": output.frame_samples}


def staleness(folder: Path, index: dict[str, Any], expected: dict[str, Any]) -> str:
    """One line on what an output was made from that is different now, and what to do; empty if nothing is."""
    pairs = {name: (index.get(name), expected[name]) for name in ("version", "data", "frame_samples")}
    if "precision" in expected:  # What was encoded before there was a choice is fp32.
        pairs["precision"] = (index.get("precision", "fp32"), expected["precision"])
    old, new = index.get("weights") or {}, expected["weights"]
    pairs |= {f"weights of {stage}": (old.get(stage), new.get(stage)) for stage in sorted({*old, *new})}
    changed = [f"{name}: {before} -> {now}" for name, (before, now) in pairs.items() if before != now]
    advice = "run `melody-cm data encode` for this recipe with --again, or delete that folder"
    return f"{folder} was encoded from something else: {'; '.join(changed)}; {advice}" if changed else ""


def find_encoded(
    folder: Path, model: nn.Module, sample_rate: int, fingerprint: Callable[[], str]
) -> EncodedClips | None:
    """What a training of `model` can read instead of encoding, or None if nothing is there.

    Waveforms are read as well where the step itself (`model.reads_waveform`), an encoder that still learns or one that
    was not run before needs them. The data module's `fingerprint` is asked only if something is there. A ValueError if
    that was made from other weights or other music, or its index is damaged.
    """
    outputs = frozen_outputs(model, sample_rate) if folder.is_dir() else []
    indices = {output.name: read_index(folder / output.name) for output in outputs}
    there = [output for output in outputs if is_whole(indices[output.name])]
    if not there:
        return None
    data = fingerprint()
    for output in there:
        if stale := staleness(folder / output.name, indices[output.name], identity(output, data)):
            raise ValueError(stale)
    missing = any(output not in there and not output.reads_captions for output in outputs)
    reads_waveform = missing or getattr(model, "reads_waveform", True) or has_live_encoder(model)
    return EncodedClips([EncodedOutput(folder / output.name) for output in there], reads_waveform)
