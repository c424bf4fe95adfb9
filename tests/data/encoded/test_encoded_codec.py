"""A codec's codes are encoded once for all its levels, and language models read them without the sound."""

import pytest
import torch
from encoded_runs import Model, datamodule, encode
from encoded_toys import RATE, SECONDS, make_music
from toy_systems import ToyCodec

from melody_cm.data.encoded import find_encoded, frozen_outputs
from melody_cm.data.encoded.outputs import hears_by_itself
from melody_cm.encoders import CodecTokenizer
from melody_cm.storage import save_network, write_json


def level_slot(first: int, last: int) -> dict:
    codec = {"class_path": "melody_cm.storage.FrozenCodec", "init_args": {"stage": "toys/codec"}}
    return {
        "class_path": "melody_cm.encoders.CodecTokenizer",
        "init_args": {"codec": codec, "first": first, "last": last},
    }


SLOTS = {"coarse": level_slot(0, 1), "fine": level_slot(2, 4)}


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """A run whose codec has encoded six clips, and the clips."""
    save_network(ToyCodec(sample_rate=RATE), tmp_path / "run/toys/codec/export/codec")
    write_json(tmp_path / "run/toys/codec/finished.json", {})
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path / "run"))
    manifest = make_music(tmp_path / "music", [1.3, SECONDS, 2.0, 0.4, 1.7, 2.2], ["train"] * 5 + ["valid"])
    return encode(tmp_path / "run", manifest, SLOTS), manifest


def test_one_output_holds_all_levels_of_both_tokenizers(encoded):
    folder, _ = encoded
    (output,) = frozen_outputs(Model(SLOTS), RATE)
    assert (output.name, output.kind, output.frame_samples) == ("toys/codec/codes", "codes", 16)
    assert (folder / output.name / "index.json").is_file()
    assert not hears_by_itself(Model(SLOTS))
    assert hears_by_itself(CodecTokenizer(ToyCodec(), 0, 1))
    assert hears_by_itself(torch.nn.ModuleList([ToyCodec()]))


def test_cached_codes_are_those_of_the_sound(encoded):
    folder, manifest = encoded
    data, model = datamodule(manifest), Model(SLOTS)
    data.encoded = find_encoded(folder, model, RATE, data.fingerprint)
    (quiet,), (heard,) = list(data.val_dataloader()), list(datamodule(manifest).batches("valid", 2))
    assert quiet.waveform is None
    for name, tokenizer in model.parts.items():
        codes = tokenizer(quiet)
        assert codes.dtype == torch.long
        assert torch.equal(codes, tokenizer(heard)), name


def test_training_crops_hold_the_codes_of_their_waveform(encoded):
    folder, manifest = encoded
    data, model = datamodule(manifest), Model(SLOTS)
    data.encoded = find_encoded(folder, model, RATE, data.fingerprint)
    data.encoded.reads_waveform = True
    dataset = data.train_dataloader().dataset
    for epoch in range(3):
        for item in range(5):
            batch = dataset[epoch, item]
            stored = {name: tokenizer(batch) for name, tokenizer in model.parts.items()}
            batch.codes.clear()
            for name, tokenizer in model.parts.items():
                assert torch.equal(stored[name], tokenizer(batch)), f"epoch {epoch}, item {item}, {name}"
