import itertools
import json
import logging
import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from encoded_runs import BAD, CROP, LENGTHS, PARTS, Model, datamodule, found
from encoded_toys import CODE_HOP, HOP, RATE, SECONDS, LoudnessTokenizer, SmoothAutoencoder, make_parts

from melody_cm.data import read_audio
from melody_cm.data.encoded import frozen_outputs
from melody_cm.storage import hash_weights


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_crops_come_as_they_are_encoded_on_the_fly(made, split):
    _, manifest, folder = made
    model = Model(*PARTS)
    data = found(folder, manifest)
    loader = {"valid": data.val_dataloader, "test": data.test_dataloader}[split]
    (cached,), (heard,) = list(loader()), list(datamodule(manifest).batches(split, 2))
    assert cached.waveform is None
    assert (cached.captions, cached.item.tolist()) == (heard.captions, heard.item.tolist())
    assert torch.equal(cached.frame_mask, heard.frame_mask)
    mean, std = model.parts["autoencoder"].posterior(heard.waveform)
    assert cached.latent_mean.dtype == torch.float32
    torch.testing.assert_close(cached.latent_mean, mean, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(cached.latent_std, std, rtol=1e-3, atol=1e-6)
    for part in ("target", "prompt"):
        codes = model.parts[part](heard)
        assert torch.equal(model.parts[part](cached), codes)
        assert torch.equal(cached.codes[model.parts[part].stage], codes)
    for part in ("conditioner", "hearing"):
        torch.testing.assert_close(model.parts[part].describe(cached), model.parts[part].describe(heard))


def test_training_crops_hold_the_frames_of_their_waveform(made):
    """The waveform that is read beside the cache tells, sample by sample, which frames and windows belong to a crop."""
    _, manifest, folder = made
    model = Model(*PARTS)
    data = found(folder, manifest)
    data.encoded = data.encoded._replace(reads_waveform=True)
    dataset = data.train_dataloader().dataset
    assert dataset.grid == 80
    starts = set()
    for epoch, item in itertools.product(range(6), [0, 1, 2, 3, 4, 6, 7]):
        batch = dataset[epoch, item]
        mean, _ = model.parts["autoencoder"].posterior(batch.waveform)
        inner = slice(None) if LENGTHS[item] <= SECONDS else slice(2, -2)  # The crop's ends hear no neighbours.
        torch.testing.assert_close(batch.latent_mean[..., inner], mean[..., inner], rtol=2e-3, atol=1e-5)
        assert batch.latent_mean.shape[-1] == CROP // HOP
        stored = batch.codes.pop("toy/2_tokenizer")
        assert torch.equal(stored[..., :-1], model.parts["target"](batch)[..., :-1])
        assert stored.shape[-1] == -(-CROP // CODE_HOP)
        starts.add((item, float(batch.waveform[0, 0, 0])))
    assert len(starts) > 25, "crops differ from epoch to epoch"


def test_a_crop_is_that_of_the_sound_moved_back_to_the_grid(made):
    _, manifest, folder = made
    dataset, heard = (data.train_dataloader().dataset for data in (found(folder, manifest), datamodule(manifest)))
    samples = round(LENGTHS[3] * RATE)
    crops = [dataset.encoded_crop(epoch, 3, samples) for epoch in range(100)]
    starts = [heard._crop(heard.clips[3], epoch, 3)[0] * RATE for epoch in range(100)]
    assert all(crop.start % 80 == 0 and 0 <= start - crop.start < 80 for crop, start in zip(crops, starts, strict=True))
    assert len(set(crops)) > 80


def test_one_value_a_clip_comes_from_the_nearest_window(made):
    _, manifest, folder = made
    model = Model("hearing", "prompt")
    data = found(folder, manifest, model)
    data.encoded = data.encoded._replace(reads_waveform=True)
    dataset = data.train_dataloader().dataset
    waveform = read_audio(manifest.parent / "3.wav", 0.0, None, RATE)[None, None]
    spare = waveform.shape[-1] - CROP
    for epoch in range(10):
        crop = dataset.encoded_crop(epoch, 3, waveform.shape[-1])
        first = min([*range(0, spare, CROP // 2), spare], key=lambda start: abs(start - crop.start))
        batch, window = dataset[epoch, 3], waveform[..., first : first + CROP]
        expected = model.parts["hearing"].joint_embedding.embed_audio(window)
        torch.testing.assert_close(batch.audio_embedding, expected)


def test_a_caption_comes_with_its_own_embedding(made):
    _, manifest, folder = made
    model, dataset = Model(*PARTS), found(folder, manifest).train_dataloader().dataset
    seen = set()
    for epoch in range(20):
        batch = dataset[epoch, 2]
        seen.add(batch.captions[0])
        expected = model.parts["conditioner"].joint_embedding.embed_text(batch.captions)
        torch.testing.assert_close(batch.text_embedding, expected)
    assert seen == {"a2", "bb", "c"}


def test_a_bad_clip_is_replaced_by_the_one_that_replaces_it_on_the_fly(made, caplog):
    _, manifest, folder = made
    cached, heard = (data.train_dataloader().dataset for data in (found(folder, manifest), datamodule(manifest)))
    with caplog.at_level(logging.WARNING):
        chosen = [int(cached[epoch, BAD].item) for epoch in range(20)]
    assert chosen == [int(heard[epoch, BAD].item) for epoch in range(20)]
    assert BAD not in chosen
    reports = [record.getMessage() for record in caplog.records if f"row {BAD + 1}: " in record.getMessage()]
    assert len(reports) == 2, "one a data set"
    assert reports[0] == reports[1]


def attached(folder, manifest, rank=0, world_size=1, batches_seen=0, **options):
    data = found(folder, manifest, **options)
    module = SimpleNamespace(batches_seen=torch.tensor(batches_seen))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, lightning_module=module)
    return itertools.islice(data.train_dataloader(), 9 - batches_seen)


def test_workers_processes_and_resumes_see_the_same_batches(made):
    _, manifest, folder = made
    alone = list(attached(folder, manifest))
    for batches in (attached(folder, manifest, num_workers=2), attached(folder, manifest, batches_seen=4)):
        rest = list(batches)
        for batch, expected in zip(rest, alone[9 - len(rest) :], strict=True):
            assert batch.item.tolist() == expected.item.tolist()
            assert batch.captions == expected.captions
            assert torch.equal(batch.latent_mean, expected.latent_mean)
            assert torch.equal(batch.codes["toy/3_clip_tokenizer"], expected.codes["toy/3_clip_tokenizer"])
    shares = [list(attached(folder, manifest, rank, 2)) for rank in (0, 1)]
    for whole, left, right in zip(alone, *shares, strict=True):
        assert torch.equal(whole.latent_mean, torch.cat([left.latent_mean, right.latent_mean]))
        assert torch.equal(whole.text_embedding, torch.cat([left.text_embedding, right.text_embedding]))


def test_evaluation_outside_the_trainer_always_hears_music(made):
    _, manifest, folder = made
    assert all(batch.waveform is not None for batch in found(folder, manifest).batches("train", 4))


def test_what_is_not_there_makes_waveforms_needed(made, tmp_path):
    _, manifest, folder = made
    assert not found(folder, manifest).encoded.reads_waveform
    only = tmp_path / "some"
    shutil.copytree(folder / "toy/1_autoencoder", only / "toy/1_autoencoder")
    partly = found(only, manifest, Model("autoencoder", "target"))
    assert partly.encoded.reads_waveform
    (batch,) = list(partly.val_dataloader())
    (heard,) = list(datamodule(manifest).val_dataloader())
    assert torch.equal(batch.waveform, heard.waveform)
    assert batch.latent_mean is not None
    assert batch.codes == {}
    assert not found(only, manifest, Model("autoencoder", "conditioner")).encoded.reads_waveform
    assert found(folder, manifest, Model(*PARTS, learning=LoudnessTokenizer())).encoded.reads_waveform
    assert found(tmp_path / "nowhere", manifest).encoded is None


def test_a_batch_without_waveform_says_what_to_do(made):
    _, manifest, folder = made
    batch = next(iter(found(folder, manifest).val_dataloader()))
    with pytest.raises(ValueError, match=r"holds no waveform.*melody-cm data encode"):
        batch.need_waveform()
    moved = batch.to("meta")
    assert {x.device.type for x in (moved.latent_mean, moved.codes["toy/2_tokenizer"])} == {"meta"}
    assert moved.item.device.type == "cpu", "by which the CPU draws"


def test_tokens_of_two_stages_are_told_apart(made):
    """Both tokenizers of a language model used to take the same unnamed codes."""
    model = Model("target", "prompt")
    batch = next(datamodule(made[1]).batches("valid", 2))
    batch = replace(batch, codes={"toy/3_clip_tokenizer": torch.ones(2, 2, 1, dtype=torch.long)})
    assert torch.equal(model.parts["prompt"](batch), batch.codes["toy/3_clip_tokenizer"])
    assert model.parts["target"](batch).shape == (2, 1, -(-CROP // CODE_HOP))


def test_two_autoencoders_in_one_model_are_refused():
    other = SmoothAutoencoder().freeze("toy/9_other", "stage:toy/9_other")
    with pytest.raises(ValueError, match="toy/1_autoencoder and toy/9_other both give a posterior"):
        frozen_outputs(Model("autoencoder", other=other), RATE)


def test_an_open_cache_travels_to_another_process(made):
    _, manifest, folder = made
    data = found(folder, manifest)
    dataset = data.train_dataloader().dataset
    first = dataset[0, 3]
    again = pickle.loads(pickle.dumps(dataset))[0, 3]
    assert torch.equal(first.latent_mean, again.latent_mean)


def test_the_index_says_what_it_was_made_from(made):
    index = json.loads((made[2] / "toy/1_autoencoder/posterior/index.json").read_text())
    assert set(index) == {"version", "data", "weights", "stage", "kind", "frame_samples", "precision", "bad"}
    assert set(index["bad"]) == {f"train/{BAD}"}
    assert index["weights"] == {"toy/1_autoencoder": hash_weights(make_parts()["autoencoder"])}
