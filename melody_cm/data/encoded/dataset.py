"""Clips as batches out of the encoded cache: the same keys, crops, captions and replacements as from sound files."""

import math
from typing import Any

import torch
from torch import Tensor

from melody_cm.data.clips import Clip, Split
from melody_cm.data.dataset import MusicDataset
from melody_cm.data.encoded.cache import Crop, EncodedClips


class EncodedDataset(MusicDataset):
    """Clips whose encoded forms are read instead of, or beside, their sound.

    A training crop is that of `MusicDataset`, moved back to where all encoded outputs have a frame. A clip that was bad
    when it was to be encoded is left out whole.

    Args:
        encoded: what was made of the clips.
        split: which split they are.
        settings: the arguments of `MusicDataset`.

    Attributes:
        grid: crops begin on multiples of so many samples.
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
        first = round(clip.start * self.sample_rate) + crop.start
        seconds = min(crop.length, crop.clip - crop.start) / self.sample_rate
        return self.read_waveform(clip, first / self.sample_rate, seconds)[0]
