"""Filling the encoded cache: every clip once through the frozen encoders, shared out among processes."""

import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch.utils.data import DataLoader, Dataset

from melody_cm.data.audio_files import AudioProblem, read_audio
from melody_cm.data.clips import Clip, Split
from melody_cm.data.dataset import audible_start
from melody_cm.data.encoded.cache import (
    INDEX,
    clip_file,
    clip_name,
    identity,
    is_whole,
    open_whole,
    read_index,
    staleness,
)
from melody_cm.data.encoded.outputs import FrozenOutput
from melody_cm.data.jobs import PATIENCE_SECONDS, cores, naming_lost_workers, notice_killed_workers
from melody_cm.placement import Placement
from melody_cm.storage import write_atomically, write_json


def prepare(folder: Path, output: FrozenOutput, data_fingerprint: str, precision: str, again: bool) -> None:
    """Make the folder of an output ready; what an interrupted command left there is kept if it is still right. A
    ValueError if the output is whole but made from something else, and not to be replaced (`again`)."""
    expected = {**identity(output, data_fingerprint), "precision": precision}
    try:
        index = read_index(folder)
    except ValueError:  # Damaged: it is made anew.
        index = {}
    stale = staleness(folder, index, expected)
    if stale and is_whole(index) and not again:
        raise ValueError(stale)
    if stale or again:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / INDEX, expected)


@dataclass(eq=False, repr=False)
class Encoding(Dataset[str | Exception | None]):
    """All that a recipe's frozen encoders still have to do for a corpus: the item (split, i) encodes clip i of a split.

    Training clips are encoded whole; of validation and test clips, exactly the crop that evaluation sees.

    Attributes:
        wanted: the outputs that are not whole.
        todo: the clips that they lack, as (split, item).
        bad: what is wrong with those that could not be encoded, by "split/item".
    """

    folder: Path  # Of the cache; `prepare` has made a folder in it ready for each output.
    outputs: Sequence[FrozenOutput]  # What is wanted of each clip.
    clips: Mapping[Split, Sequence[Clip]]
    sample_rate: int  # Hz.
    seconds: float  # Length of a crop.
    # Where the encoders work; the processes share out all GPUs if it names none of them.
    placement: Placement = field(default_factory=lambda: Placement(torch.device("cpu")))

    def __post_init__(self) -> None:
        self.crop = round(self.seconds * self.sample_rate)
        self.keys = [(split, item) for split, clips in self.clips.items() for item in range(len(clips))]
        self.indices = {output.name: read_index(self.folder / output.name) for output in self.outputs}
        self.lacking = {output.name: self._lacking(output) for output in self.outputs}
        self.wanted = [x for x in self.outputs if self.lacking[x.name] or not is_whole(self.indices[x.name])]
        lacked = set().union(*self.lacking.values())
        self.todo = [key for key in self.keys if key in lacked]
        self.bad: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, key: tuple[Split, int]) -> str | Exception | None:
        """Write the files of a clip; returns what is wrong with it, or an error that must stop everything."""
        split, item = key
        clip = self.clips[split][item]
        try:
            start, seconds = clip.start, clip.duration
            if split != "train":
                start = audible_start(clip, self.seconds)
                seconds = min(seconds or float("inf"), self.crop / self.sample_rate)
            samples = read_audio(clip.audio, start, seconds, self.sample_rate)
            for output in self.wanted:
                if key in self.lacking[output.name]:
                    with self.placement.computing():
                        heard = samples.to(self.placement.device)
                        tensors = output.encode(heard, clip.captions, self.crop, self.sample_rate)
                    content = save(tensors, {"samples": str(len(samples))})
                    file = clip_file(self.folder / output.name, split, item)
                    write_atomically(file, lambda aside, content=content: aside.write_bytes(content))
        except AudioProblem as problem:
            return f"{clip.where}: {problem}"
        except (ValueError, OSError) as error:  # A DataLoader would make a page of their one line.
            return error
        return None

    def run(self, processes: int | None = None) -> Iterator[None]:
        """Encode what there is to do, yield once for each clip, and declare the outputs whole.

        A DataLoader gives every n-th clip to each process (None: one a core, or one a GPU). On a CPU a process has one
        thread: sums then have one order, so that the files do not depend on the number of processes. What the first
        process failed with is raised here.
        """
        count = min(processes or available(self.placement.device), len(self.todo))
        if self.placement.device.type != "cpu" and count == 1:
            self._take_device(0)
            count = 0
        # Forked, because some networks cannot be pickled; where nothing can be forked, this process does it all.
        count = count if "fork" in multiprocessing.get_all_start_methods() else 0
        settings = {"worker_init_fn": self._take_device, "multiprocessing_context": "fork"} if count else {}
        settings |= {"timeout": PATIENCE_SECONDS} if count else {}
        notice_killed_workers()
        return self._collect(iter(DataLoader(self, batch_size=None, sampler=self.todo, num_workers=count, **settings)))

    def _collect(self, results: Iterator[str | Exception | None]) -> Iterator[None]:
        with naming_lost_workers("encodes", "use fewer --processes"):
            for key in self.todo:
                result = next(results)
                if isinstance(result, Exception):
                    del results  # Ends the processes, before the error keeps this frame alive.
                    raise result
                if result is not None:
                    self.bad[clip_name(*key)] = result
                yield
            for output in self.wanted:
                index = self.indices[output.name]
                write_json(self.folder / output.name / INDEX, {**index, "bad": index.get("bad", {}) | self.bad})

    def _lacking(self, output: FrozenOutput) -> set[tuple[Split, int]]:
        folder, bad = self.folder / output.name, self.indices[output.name].get("bad", {})
        wanted = (key for key in self.keys if clip_name(*key) not in bad)
        return {key for key in wanted if open_whole(clip_file(folder, *key)) is None}

    def _take_device(self, worker: int) -> None:
        device = self.placement.device
        if device.type == "cuda" and device.index is None:
            self.placement = replace(self.placement, device=torch.device("cuda", worker % torch.cuda.device_count()))
        self.placement.put(output.network for output in self.wanted)


def available(device: torch.device) -> int:
    """How many processes can work at a time: one a core, or one a GPU."""
    if device.type == "cpu":
        return cores()
    return torch.cuda.device_count() if device == torch.device("cuda") else 1
