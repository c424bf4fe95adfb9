import itertools
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule, Trainer

from melody_cm.data import ManifestCorpus, MusicDataModule, MusicDataset, SyntheticCorpus, TrainingOrder
from melody_cm.data.jobs import naming_lost_workers
from melody_cm.randomness import keyed_generator


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_CACHE", str(tmp_path_factory.mktemp("cache")))
        SyntheticCorpus(28, 1.0, sample_rate=8000).clips()
        yield


def module(batch_size=4, **options) -> MusicDataModule:
    return MusicDataModule(SyntheticCorpus(28, 1.0, sample_rate=8000), 8000, 0.5, batch_size, **options)


def attached(rank=0, world_size=1, batches_seen=0, **options) -> MusicDataModule:
    data = module(**options)
    lightning_module = SimpleNamespace(batches_seen=torch.tensor(batches_seen))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, lightning_module=lightning_module)
    return data


def first(loader, count):
    return list(itertools.islice(loader, count))


def keys(batches):
    return [(int(epoch), int(item)) for batch in batches for epoch, item in zip(batch.epoch, batch.item, strict=True)]


def test_the_stream_is_one_keyed_permutation_after_another():
    stream = [key for batch in first(TrainingOrder(7, 5, seed=3), 9) for key in batch]
    expected = [
        (epoch, item)
        for epoch in range(7)
        for item in torch.randperm(7, generator=keyed_generator(3, "order", epoch, 0)).tolist()
    ]
    assert stream == expected[:45]
    assert [sorted(item for epoch, item in stream if epoch == e) for e in range(6)] == [list(range(7))] * 6
    assert stream[:7] != [(0, item) for _, item in stream[7:14]]


def test_two_processes_see_what_one_sees(cache):
    alone = first(attached(batch_size=6).train_dataloader(), 8)
    shares = [first(attached(rank, 2, batch_size=6).train_dataloader(), 8) for rank in (0, 1)]
    for whole, left, right in zip(alone, *shares, strict=True):
        assert keys([whole]) == keys([left, right])
        assert torch.equal(whole.waveform, torch.cat([left.waveform, right.waveform]))
        assert whole.captions == left.captions + right.captions
        assert len(left) == 3


def test_the_loader_goes_on_where_the_module_says(cache):
    whole = first(attached().train_dataloader(), 12)
    rest = first(attached(batches_seen=7).train_dataloader(), 5)
    assert keys(rest) == keys(whole[7:])
    assert torch.equal(rest[-1].waveform, whole[-1].waveform)
    assert keys(first(module().train_dataloader(), 12)) == keys(whole)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_sees_every_clip_once_over_all_processes(cache, split):
    corpus = [clip.id for clip in SyntheticCorpus(28, 1.0, sample_rate=8000).clips() if clip.split == split]
    name = {"valid": "val_dataloader", "test": "test_dataloader"}[split]
    parts = [list(getattr(attached(rank, 2, batch_size=2), name)()) for rank in (0, 1)]
    seen = keys(parts[0]) + keys(parts[1])
    assert sorted(seen) == [(-1, item) for item in range(len(corpus))]
    outside = list(module().batches(split, 3))
    assert keys(outside) == [(-1, item) for item in range(len(corpus))]
    assert outside[0].waveform.shape[1:] == (1, 4000)


def test_validation_is_capped_and_spread(cache):
    data = module(valid_clips=2)
    assert len(data.split_clips("valid")) == 2
    data._clips["valid"] = data.split_clips("train")[:10]
    assert keys(data.val_dataloader()) == [(-1, 0), (-1, 5)]


def test_batches_that_cannot_be_shared_are_refused(cache):
    with pytest.raises(ValueError, match="batch_size is 5 for 2 processes"):
        attached(0, 2, batch_size=5).train_dataloader()
    with pytest.raises(ValueError, match="batch_size is 3 for 2 processes"):
        attached(0, 2, batch_size=3).val_dataloader()
    with pytest.raises(ValueError, match="2 'valid' clips for 3 processes"):
        attached(0, 3, batch_size=3).val_dataloader()


def test_impossible_sizes_are_refused():
    for name in ("batch_size", "seconds", "sample_rate", "valid_clips"):
        sizes = {"sample_rate": 8000, "seconds": 1.0, "batch_size": 1, "valid_clips": 1}
        sizes[name] = 0.0 if name == "seconds" else 0
        with pytest.raises(ValueError, match=f"{name} is 0"):
            MusicDataModule(SyntheticCorpus(28, 1.0), **sizes)


@pytest.mark.parametrize("seconds", [1.2, 1e6])
def test_crops_that_would_be_mostly_zeros_are_refused(cache, seconds):
    with pytest.raises(ValueError, match=r"the longest clip of .* has 0\.5 s, .*; give at most 1$"):
        MusicDataModule(SyntheticCorpus(4, 0.5, sample_rate=8000), 8000, seconds, 2).train_dataloader()
    assert MusicDataModule(SyntheticCorpus(4, 0.5, sample_rate=8000), 8000, 0.9, 2).train_dataloader() is not None


def test_an_empty_split_names_corpus_and_split(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({"id": "a", "audio": "a.wav", "caption": "x", "split": "train"}))
    data = MusicDataModule(ManifestCorpus(str(path)), 8000, 1.0, 1)
    with pytest.raises(ValueError, match=r"ManifestCorpus\(path=.*manifest.jsonl.* no clip in split 'valid' \(1 train"):
        data.val_dataloader()
    with pytest.raises(ValueError, match="none of 1 'train' clips can be read"):
        next(data.batches("train", 1))


def test_batches_outside_a_trainer_read_each_clip_once_and_none_too_early(cache, monkeypatch):
    read = []
    original = MusicDataset.read
    monkeypatch.setattr(
        MusicDataset, "read", lambda self, epoch, item: read.append(item) or original(self, epoch, item)
    )
    data = module()
    batches = data.batches("train", 3)
    assert next(batches).item.tolist() == [0, 1, 2] == read
    everything = [0, 1, 2, *(item for batch in batches for item in batch.item.tolist())]
    assert everything == read == list(range(len(data.split_clips("train"))))


def test_fingerprints_follow_corpus_rate_and_length():
    corpus = SyntheticCorpus(28, 1.0, sample_rate=8000)
    same = [MusicDataModule(corpus, 8000, 0.5, size, seed=size).fingerprint() for size in (2, 4)]
    others = [
        MusicDataModule(SyntheticCorpus(28, 1.0, seed=1, sample_rate=8000), 8000, 0.5, 4).fingerprint(),
        MusicDataModule(corpus, 16000, 0.5, 4).fingerprint(),
        MusicDataModule(corpus, 8000, 0.25, 4).fingerprint(),
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 4


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.long))
        self.keys: list[list[tuple[int, int]]] = []
        self.validated = 0

    def training_step(self, batch, batch_idx):
        self.keys.append(keys([batch]))
        self.batches_seen += 1
        return self.weight * batch.waveform.mean()

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path, steps, checkpoint=None, **options):
    recorder = Recorder()
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, val_check_interval=3,
        check_val_every_n_epoch=None, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(recorder, module(**options), ckpt_path=checkpoint)
    trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
    return recorder


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_training_sees_what_an_uninterrupted_one_sees(cache, tmp_path, num_workers, recwarn):
    whole = fit(tmp_path, 9, num_workers=num_workers)
    begun = fit(tmp_path, 4, num_workers=num_workers)
    resumed = fit(tmp_path, 9, checkpoint=tmp_path / "4.ckpt", num_workers=num_workers)
    assert len(whole.keys) == 9
    assert begun.keys + resumed.keys == whole.keys
    assert whole.validated == 6
    about_data = [str(warning.message) for warning in recwarn if "dataloader" in str(warning.message).lower()]
    assert len(about_data) <= 1, about_data


def test_short_lightning_epochs_do_not_repeat_batches(cache, tmp_path):
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(recorder, module())
    assert recorder.keys == [keys([batch]) for batch in first(module().train_dataloader(), 6)]


def test_shared_memory_that_cannot_hold_what_workers_read_is_named_before_they_start(cache, monkeypatch):
    data = attached(batch_size=4, num_workers=8)
    in_flight = 8 * 2 * 4 * 4000 * 4  # Workers, batches each, clips, samples, bytes.
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=in_flight - 1))
        with pytest.raises(OSError, match=r"/dev/shm has 1 MiB free.*--shm-size, or set data.num_workers lower"):
            data.train_dataloader()
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=in_flight))
        assert data.train_dataloader().timeout > 0


@pytest.mark.parametrize("end", ["worker (pid 7) is killed by signal: Bus error.", "timed out after 1800 seconds"])
def test_a_worker_that_is_lost_is_one_line(end):
    with (
        pytest.raises(OSError, match=r"--shm-size of a container\); set data.num_workers lower, and the same command"),
        naming_lost_workers("reads music", "set data.num_workers lower"),
    ):
        raise RuntimeError(f"DataLoader {end}")


def test_workers_report_bad_clips_to_the_main_process_once(cache, tmp_path, caplog):
    data = module(num_workers=2, batch_size=4)
    clips = data.split_clips("train")
    clips[5].audio = tmp_path / "missing.flac"
    loader = data.train_dataloader()
    with caplog.at_level(logging.WARNING):
        batches = first(loader, 12)
    assert int(loader.dataset.bad.sum()) == 1
    assert 5 not in {item for _, item in keys(batches)}
