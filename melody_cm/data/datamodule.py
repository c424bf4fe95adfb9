"""The data slot of every recipe: a corpus, at a sample rate and a length, in reproducible batches."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from lightning import LightningDataModule
from torch import Generator
from torch.utils.data import DataLoader

from melody_cm.batch import MusicBatch
from melody_cm.data.audio_files import AudioProblem, audio_info
from melody_cm.data.clips import Clip, Split
from melody_cm.data.dataset import MusicDataset, collate
from melody_cm.data.encoded.cache import EncodedClips, EncodedDataset
from melody_cm.data.jobs import PATIENCE_SECONDS, notice_killed_workers, require_shared_memory
from melody_cm.data.manifest import Corpus
from melody_cm.data.order import Key, TrainingOrder, evaluation_batches, share_of
from melody_cm.storage import hash_data

PREFETCHED, BYTES_PER_SAMPLE = 2, 4  # Batches that each worker has ready; float32.
LOOKED_AT = 300  # Clips of a split, to see how long they are.


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


class MusicDataModule(LightningDataModule):
    """Batches of captioned music for training, validation and test.

    The training loader is endless and begins at micro-batch `batches_seen` of the trained module (0 if it has none), so
    a resumed run goes on exactly where the checkpoint was taken, with workers too, and the batches of several processes
    together are those of one. Use a Trainer with `use_distributed_sampler=False` and a budget in steps.

    Args:
        corpus: where the clips come from.
        sample_rate: Hz of the waveforms.
        seconds: length of a crop.
        batch_size: clips in a micro-batch over ALL processes.
        num_workers: processes that read clips, for each process that trains.
        seed: of order, crops and captions.
        strict: raise on the first bad clip instead of leaving it out.
        valid_clips: at most so many clips for validation, spread evenly over the split.

    Attributes:
        encoded: what frozen encoders made of the clips before, if the loaders are to read that.

    Raises:
        ValueError: a rate, length or number that is not positive.
    """

    def __init__(
        self,
        corpus: Corpus,
        sample_rate: int,
        seconds: float,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        strict: bool = False,
        valid_clips: int = 32,
    ) -> None:
        super().__init__()
        sizes = {"sample_rate": sample_rate, "seconds": seconds, "batch_size": batch_size, "valid_clips": valid_clips}
        for name, value in sizes.items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; a positive number is needed")
        self.corpus, self.sample_rate, self.seconds = corpus, sample_rate, seconds
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.strict, self.valid_clips = seed, strict, valid_clips
        self.encoded: EncodedClips | None = None
        self._clips: dict[Split, Sequence[Clip]] = {}

    def prepare_data(self) -> None:
        """Let one process a machine render what is rendered once."""
        self.corpus.clips()

    def split_clips(self, split: Split) -> Sequence[Clip]:
        """The clips of a split; a ValueError if it has none."""
        if not self._clips:
            self._clips = self.corpus.splits()
            self._refuse_padding([clip for clips in self._clips.values() for clip in spread(clips, LOOKED_AT)])
        if not self._clips[split]:
            held = ", ".join(f"{len(clips)} {name}" for name, clips in self._clips.items())
            raise ValueError(f"{self.corpus} has no clip in split '{split}' ({held}); add some, or use another corpus")
        return self._clips[split]

    def _refuse_padding(self, clips: Iterable[Clip]) -> None:
        """Refuse crops of which, in every clip that is looked at, more than half would be zeros."""
        longest = 0.0
        for clip in clips:
            try:
                longest = max(longest, clip.duration or audio_info(clip.audio).seconds - clip.start)
            except AudioProblem:
                continue
            if 2 * longest >= self.seconds:
                return
        if longest:
            raise ValueError(
                f"seconds is {self.seconds:g}, but the longest clip of {self.corpus} has {longest:g} s, so that "
                f"most of every crop would be zeros; give at most {2 * longest:g}"
            )

    def fingerprint(self) -> str:
        """A hash that changes when the clips, their rate or their length do."""
        return hash_data([self.corpus.fingerprint(), self.sample_rate, float(self.seconds)])

    def batches(self, split: Split, batch_size: int) -> Iterator[MusicBatch]:
        """All readable clips of a split in order, as evaluation sees them, outside a Trainer; always with waveforms."""
        count, num_batches = len(self.split_clips(split)), 0
        examples = self.examples(split, range(count))
        for batch in iter(lambda: list(islice(examples, batch_size)), []):
            yield collate(batch)
            num_batches += 1
        if not num_batches:
            raise self._unreadable(count, split)

    def examples(self, split: Split, items: Iterable[int]) -> Iterator[MusicBatch]:
        """The readable ones of some clips of a split, as evaluation sees them, each read when it is asked for."""
        return self._dataset(split, random_crop=False, encoded=None).examples(items)

    def train_dataloader(self) -> DataLoader[MusicBatch]:
        dataset = self._dataset("train", random_crop=True, encoded=self.encoded)
        order = TrainingOrder(len(dataset), self.batch_size, self.seed, self._batches_seen, *self._processes())
        return self._loader(dataset, order)

    def val_dataloader(self) -> DataLoader[MusicBatch]:
        return self._evaluation_loader("valid", self.valid_clips)

    def test_dataloader(self) -> DataLoader[MusicBatch]:
        return self._evaluation_loader("test", len(self.split_clips("test")))

    def _evaluation_loader(self, split: Split, at_most: int) -> DataLoader[MusicBatch]:
        dataset = self._dataset(split, random_crop=False, encoded=self.encoded)
        rank, num_processes = self._processes()
        count = min(at_most, len(dataset))
        items = dataset.readable(spread(range(len(dataset)), count))
        if not items:
            raise self._unreadable(count, split)
        if len(items) < num_processes:
            raise ValueError(f"{self.corpus} has {len(items)} '{split}' clips for {num_processes} processes; add some")
        return self._loader(dataset, evaluation_batches(items, self.batch_size, rank, num_processes))

    def _dataset(self, split: Split, random_crop: bool, encoded: EncodedClips | None) -> MusicDataset:
        clips = self.split_clips(split)
        settings = (clips, self.sample_rate, self.seconds, self.seed, random_crop, self.strict)
        return MusicDataset(*settings) if encoded is None else EncodedDataset(encoded, split, *settings)

    def _unreadable(self, count: int, split: Split) -> ValueError:
        return ValueError(f"{self.corpus}: none of {count} '{split}' clips can be read; run `melody-cm data check`")

    def _loader(self, dataset: MusicDataset, order: Iterable[list[Key]]) -> DataLoader[MusicBatch]:
        if self.num_workers:
            share = self.batch_size / self._processes()[1] * getattr(self.trainer, "num_devices", 1)
            ahead = PREFETCHED * self.num_workers * share * self.seconds * self.sample_rate * BYTES_PER_SAMPLE
            require_shared_memory(ahead, "set data.num_workers lower")
            notice_killed_workers()
        device = getattr(getattr(self.trainer, "strategy", None), "root_device", None)
        # A generator of its own: a loader draws a seed for its workers, by default from torch's global stream.
        return DataLoader(
            dataset,
            batch_sampler=order,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            prefetch_factor=PREFETCHED if self.num_workers else None,
            timeout=PATIENCE_SECONDS if self.num_workers else 0,
            pin_memory=device is not None and device.type == "cuda",
            generator=Generator().manual_seed(self.seed),
        )

    def _batches_seen(self) -> int:
        module = self.trainer.lightning_module if self.trainer else None
        return int(getattr(module, "batches_seen", 0))

    def _processes(self) -> tuple[int, int]:
        """This process's rank and the number of processes."""
        rank, num_processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share_of(self.batch_size, num_processes)
        return rank, num_processes
