"""Levels of a codec as codes: which ones, at which rate, once a batch, and what is refused."""

import pytest
import torch
from toy_systems import ToyCodec

from melody_cm.batch import MusicBatch
from melody_cm.encoders import CodecTokenizer


def batch_of(samples: int) -> MusicBatch:
    waveform = torch.rand(2, 1, samples, generator=torch.Generator().manual_seed(1)) - 0.5
    nobody = torch.zeros(2, dtype=torch.long)
    return MusicBatch(nobody, nobody, waveform, torch.ones(2, samples, dtype=torch.bool), ["", ""])


@pytest.fixture
def frozen() -> ToyCodec:
    return ToyCodec().freeze("musiclm/1_codec", "stage:musiclm/1_codec")


@pytest.mark.parametrize("samples", [160, 151])
def test_coarse_and_fine_levels_are_the_codec_s_own_and_together_all(samples):
    codec, batch = ToyCodec(), batch_of(samples)
    coarse, fine = CodecTokenizer(codec, 0, 1), CodecTokenizer(codec, 2, 4)
    assert (coarse.num_codebooks, coarse.codebook_size, coarse.frame_rate, coarse.sample_rate) == (2, 4, 50.0, 800)
    codes = codec.encode_codes(batch.waveform)
    assert codes.shape == (2, 5, 10)
    assert torch.equal(coarse(batch), codes[:, :2])
    assert torch.equal(fine(batch), codes[:, 2:])
    assert torch.equal(fine.quantize(fine.features(batch)), codes[:, 2:])


def test_all_levels_give_the_waveform_back_in_frames_and_some_do_not():
    codec, batch = ToyCodec(), batch_of(160)
    whole = CodecTokenizer(codec, 0, 4)
    features = whole.features(batch)
    assert torch.equal(features.flatten(1), batch.waveform[:, 0])
    decoded = whole.dequantize(whole.quantize(features))
    assert torch.equal(decoded.flatten(1), codec.decode_codes(codec.encode_codes(batch.waveform))[:, 0])
    with pytest.raises(ValueError, match="2 of the codec's 5 levels"):
        CodecTokenizer(codec, 0, 1).dequantize(torch.zeros(1, 2, 3, dtype=torch.long))


def test_a_finished_codec_runs_once_a_batch_for_all_its_tokenizers(frozen, monkeypatch):
    coarse, fine, batch = CodecTokenizer(frozen, 0, 1), CodecTokenizer(frozen, 2, 4), batch_of(160)
    runs = []
    encode = frozen.encode_codes
    monkeypatch.setattr(frozen, "encode_codes", lambda waveform: runs.append(1) or encode(waveform))
    codes = torch.cat([coarse(batch), fine(batch)], dim=1)
    assert torch.equal(codes, ToyCodec().encode_codes(batch.waveform))
    assert len(runs) == 1


def test_codes_encoded_before_need_no_sound(frozen):
    batch = batch_of(160)
    batch.codes["musiclm/1_codec"] = torch.arange(2 * 5 * 3).view(2, 5, 3)
    batch.waveform = None
    assert torch.equal(CodecTokenizer(frozen, 2, 4)(batch), batch.codes["musiclm/1_codec"][:, 2:])
    with pytest.raises(ValueError, match="no waveform"):
        CodecTokenizer(ToyCodec(), 2, 4)(batch)


def test_the_codec_neither_learns_nor_changes_its_mode():
    codec = torch.nn.Sequential(CodecTokenizer(WithWeights(), 0, 1)).train()
    assert not any(module.training for module in codec[0].modules())
    assert not any(parameter.requires_grad for parameter in codec.parameters())


class WithWeights(ToyCodec):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (-1, 2), (3, 2)])
def test_levels_that_are_none_are_refused(first, last):
    with pytest.raises(ValueError, match=f"levels {first} to {last} asked for, but the codec has 5"):
        CodecTokenizer(ToyCodec(), first, last)
    with pytest.raises(ValueError, match="not fitted"):
        CodecTokenizer(ToyCodec(), 0, 1).fit(torch.zeros(4, 16), 0)
