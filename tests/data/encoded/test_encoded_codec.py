"""A codec's codes are encoded once for all its levels, and language models read them without the sound."""

import pytest
import torch
from encoded_runs import Model, datamodule, encode, found
from encoded_toys import RATE, SECONDS, make_music
from toy_systems import ToyCodec

from melody_cm.data.encoded import frozen_outputs
from melody_cm.data.encoded.outputs import has_live_encoder
from melody_cm.encoders import CodecTokenizer


@pytest.fixture(scope="module")
def levels():
    """Two tokenizers of one frozen codec."""
    codec = ToyCodec(sample_rate=RATE).freeze("toys/codec", "stage:toys/codec")
    return Model(coarse=CodecTokenizer(codec, 0, 1), fine=CodecTokenizer(codec, 2, 4))


@pytest.fixture(scope="module")
def encoded(levels, tmp_path_factory):
    """Six clips that the codec has encoded."""
    root = tmp_path_factory.mktemp("codec")
    manifest = make_music(root / "music", [1.3, SECONDS, 2.0, 0.4, 1.7, 2.2], ["train"] * 5 + ["valid"])
    return encode(root / "run", manifest, levels)[0], manifest


def test_one_output_holds_all_levels_of_both_tokenizers(encoded, levels):
    (output,) = frozen_outputs(levels, RATE)
    assert (output.name, output.kind, output.frame_samples) == ("toys/codec/codes", "codes", 16)
    assert (encoded[0] / output.name / "index.json").is_file()
    assert not has_live_encoder(levels)
    assert has_live_encoder(CodecTokenizer(ToyCodec(), 0, 1))
    assert has_live_encoder(torch.nn.ModuleList([ToyCodec()]))


def test_cached_codes_are_those_of_the_sound(encoded, levels):
    folder, manifest = encoded
    data = found(folder, manifest, levels)
    (quiet,), (heard,) = list(data.val_dataloader()), list(datamodule(manifest).batches("valid", 2))
    assert quiet.waveform is None
    for name, tokenizer in levels.parts.items():
        codes = tokenizer(quiet)
        assert codes.dtype == torch.long
        assert torch.equal(codes, tokenizer(heard)), name


def test_training_crops_hold_the_codes_of_their_waveform(encoded, levels):
    folder, manifest = encoded
    data = found(folder, manifest, levels)
    data.encoded = data.encoded._replace(reads_waveform=True)
    dataset = data.train_dataloader().dataset
    for epoch in range(3):
        for item in range(5):
            batch = dataset[epoch, item]
            stored = {name: tokenizer(batch) for name, tokenizer in levels.parts.items()}
            batch.codes.clear()
            for name, tokenizer in levels.parts.items():
                assert torch.equal(stored[name], tokenizer(batch)), f"epoch {epoch}, item {item}, {name}"
