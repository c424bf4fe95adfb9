"""Clips as batches: crops, captions and padding, all a function of (seed, epoch, item)."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from melody_cm.batch import MusicBatch
from melody_cm.data.audio_files import AudioProblem, UnusableFile, audio_info, read_audio, scan_audio
from melody_cm.data.clips import Clip
from melody_cm.data.order import EVALUATION_EPOCH
from melody_cm.randomness import keyed_generator
from melody_cm.signal import fit_length
from melody_cm.storage import located

MAX_REPLACEMENTS = 20
log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class MusicDataset(Dataset[MusicBatch]):
    """Clips, each as a `MusicBatch` of one, under the key (epoch, item).

    Training (`random_crop`): a random crop and one of the clip's captions. Evaluation: the first crop of the clip in
    which there is sound, and its first caption. Clips without captions have the caption "".

    A bad clip (see `AudioProblem`) in training gives its place to another, chosen by (seed, epoch, item) alone, so
    that all processes and a resumed run see the same; it is reported once, with its row, and not opened again if no
    other crop of it could serve. So does one that is silent where the crop fell, which is not bad. In evaluation, where
    a repeated clip would count twice, it raises: leave bad clips out with `readable` first.
    """

    clips: Sequence[Clip]  # One split of a corpus; `item` is an index in this list.
    sample_rate: int  # Hz.
    seconds: float  # Length of a crop; shorter clips are padded with zeros.
    seed: int  # Of crops, captions and replacements.
    random_crop: bool  # Training, as opposed to evaluation.
    strict: bool = False  # Raise on bad clips in training too.

    def __post_init__(self) -> None:
        # Shared with the loader's worker processes, so that each bad clip is reported once.
        self.bad = torch.zeros(len(self.clips), dtype=torch.bool).share_memory_()
        self.unusable = torch.zeros(len(self.clips), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> MusicBatch:
        epoch, item = key
        if self.strict or not self.random_crop:
            return self.read(epoch, item)
        candidates = torch.randint(
            len(self.clips), (MAX_REPLACEMENTS,), generator=keyed_generator(self.seed, "replacement", epoch, item)
        )
        for candidate in [item, *candidates.tolist()]:
            if self.unusable[candidate]:
                continue
            try:
                return self.read(epoch, candidate)
            except AudioProblem as problem:
                self._report(candidate, problem)
                self.unusable[candidate] |= isinstance(problem, UnusableFile)
        raise AudioProblem(
            f"{self.clips[item].where}: this clip and {MAX_REPLACEMENTS} others are bad; run `melody-cm data check`"
        )

    def readable(self, items: Sequence[int]) -> list[int]:
        """Those of `items` that evaluation can read, reporting the others once; with `strict`, they raise."""
        return [int(example.item) for example in self.examples(items)]

    def examples(self, items: Iterable[int]) -> Iterator[MusicBatch]:
        """What evaluation sees of the readable ones of `items`, each read when it is asked for."""
        for item in items:
            try:
                example = self.read(EVALUATION_EPOCH, item)
            except AudioProblem as problem:
                if self.strict:
                    raise
                self._report(item, problem)
            else:
                yield example

    def read(self, epoch: int, item: int) -> MusicBatch:
        """The clip itself, or an AudioProblem whose message begins with its file and row."""
        clip = self.clips[item]
        row = self._caption_row(clip, epoch, item)
        return MusicBatch(
            item=torch.tensor([item]),
            epoch=torch.tensor([epoch]),
            captions=[clip.captions[row] if clip.captions else ""],
            **self.sound_fields(clip, epoch, item, row),
        )

    def sound_fields(self, clip: Clip, epoch: int, item: int, caption: int) -> dict[str, Any]:
        """The fields of a `MusicBatch` of one that tell how the clip sounds; `caption` is the number of its caption."""
        with located(clip.where):
            start, seconds = self._crop(clip, epoch, item)
        waveform, samples = self.read_waveform(clip, start, seconds)
        return {"waveform": waveform, "frame_mask": (torch.arange(waveform.shape[-1]) < samples)[None]}

    def read_waveform(self, clip: Clip, start: float, seconds: float) -> tuple[Tensor, int]:
        """Seconds of a clip's file as a crop (1, 1, t), and how many of its samples are not padding; an AudioProblem if
        they are bad."""
        with located(clip.where):
            waveform = read_audio(clip.audio, start, seconds, self.sample_rate)
        length = round(self.seconds * self.sample_rate)
        return fit_length(waveform, length)[None, None], min(len(waveform), length)

    def _caption_row(self, clip: Clip, epoch: int, item: int) -> int:
        """Which of the clip's captions it comes with: a drawn one in training, else the first."""
        if not clip.captions or not self.random_crop:
            return 0
        generator = keyed_generator(self.seed, "caption", epoch, item)
        return int(torch.randint(len(clip.captions), (), generator=generator))

    def crop_place(self, epoch: int, item: int) -> float:
        """Where the crop of an epoch lies: 0 at the clip's beginning, 1 at its end."""
        generator = keyed_generator(self.seed, "crop", epoch, item)
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    def _crop(self, clip: Clip, epoch: int, item: int) -> tuple[float, float]:
        """Start in the file and length of the crop, in seconds."""
        duration = clip.duration
        if duration is None:
            duration = audio_info(clip.audio).seconds - clip.start
        spare = duration - self.seconds
        if not self.random_crop:
            return audible_start(clip, self.seconds), min(duration, self.seconds)
        if spare <= 0:
            return clip.start, duration
        return clip.start + spare * self.crop_place(epoch, item), self.seconds

    def _report(self, item: int, problem: AudioProblem) -> None:
        longer = self.clips[item].duration is None or self.clips[item].duration > self.seconds
        if self.bad[item] or (self.random_crop and longer and problem.reason == "silent"):
            return
        self.bad[item] = True
        log.warning("left out a bad clip: %s", problem)


def audible_start(clip: Clip, seconds: float) -> float:
    """Where evaluation begins to hear a clip: at the first of its crops, end to end and the last one, with sound.

    An AudioProblem if all of it is silent, or bad in another way.
    """
    length = audio_info(clip.audio).seconds - clip.start
    length = length if clip.duration is None else min(length, clip.duration)
    spare = max(0.0, length - seconds)
    for number in range(math.ceil(spare / seconds) + 1):
        start = clip.start + min(number * seconds, spare)
        try:
            scan_audio(clip.audio, start, min(seconds, length))
        except AudioProblem as problem:
            if problem.reason != "silent" or number * seconds >= spare:
                raise
        else:
            break
    return start


def collate(examples: Sequence[MusicBatch]) -> MusicBatch:
    """One batch of several; fields that are None in all of them stay None."""
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(MusicBatch)):
        values = [getattr(example, name) for example in examples]
        if isinstance(values[0], Tensor):
            joined[name] = torch.cat(values)
        elif isinstance(values[0], list):
            joined[name] = [value for each in values for value in each]
        elif isinstance(values[0], dict):
            joined[name] = {key: torch.cat([value[key] for value in values]) for key in values[0]}
        else:
            joined[name] = None
    return MusicBatch(**joined)
