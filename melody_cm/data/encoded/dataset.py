"""Clips as batches out of the encoded cache: the same keys, captions and replacements as from sound files."""

from collections.abc import Sequence

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.data.clips import Clip, Split
from melody_cm.data.dataset import MusicDataset
from melody_cm.data.encoded.cache import EncodedClips
from melody_cm.data.encoded.windows import Crop
from melody_cm.randomness import keyed_generator


class EncodedDataset(MusicDataset):
    """Clips whose encoded forms are read instead of, or beside, their sound.

    Training crops begin where all encoded outputs have a frame, and a clip that was bad when it was to be encoded is
    left out whole; otherwise this gives what `MusicDataset` does.

    Args:
        clips, sample_rate, seconds, seed, random_crop, strict: as there.
        split: which split the clips are.
        encoded: what was made of them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sample_rate: int,
        seconds: float,
        seed: int,
        random_crop: bool,
        strict: bool,
        split: Split,
        encoded: EncodedClips,
    ) -> None:
        super().__init__(clips, sample_rate, seconds, seed, random_crop, strict)
        self.split = split
        self.encoded = encoded

    def read(self, epoch: int, item: int) -> MusicBatch:
        """The clip itself.

        Raises:
            AudioProblem: the clip is bad; the message begins with its file and row.
        """
        clip = self.clips[item]
        crop = self._crop_of(epoch, item)
        row = self.caption_row(clip, epoch, item)
        return MusicBatch(
            item=torch.tensor([item]),
            epoch=torch.tensor([epoch]),
            waveform=self._waveform(clip, crop) if self.encoded.reads_waveform else None,
            frame_mask=(torch.arange(crop.length) < crop.clip - crop.start)[None],
            captions=[clip.captions[row] if clip.captions else ""],
            **self.encoded.fields(self.split, item, crop, row),
        )

    def _crop_of(self, epoch: int, item: int) -> Crop:
        samples = self.encoded.samples(self.split, item)
        length = round(self.seconds * self.sample_rate)
        if not self.random_crop or samples <= length:
            return Crop(0, length, min(samples, length))
        places = (samples - length) // self.encoded.grid + 1
        place = torch.randint(places, (), generator=keyed_generator(self.seed, "crop", epoch, item))
        return Crop(int(place) * self.encoded.grid, length, samples)

    def _waveform(self, clip: Clip, crop: Crop) -> Tensor:
        first = round(clip.start * self.sample_rate) + crop.start
        seconds = min(crop.length, crop.clip - crop.start) / self.sample_rate
        return self.read_waveform(clip, first / self.sample_rate, seconds)[0]
