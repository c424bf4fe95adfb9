"""EnCodec's latents before quantization, from tiny folders of the public layout."""

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from melody_cm.evaluation.embeddings import EncodecEmbedding
from melody_cm.storage import hash_weights

TINY = {"num_filters": 2, "hidden_size": 8, "codebook_size": 16, "num_lstm_layers": 1}


def write_encodec(folder, seed=0, **settings):
    torch.manual_seed(seed)
    model = EncodecModel(EncodecConfig(**{**TINY, **settings}))
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.1)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encodec(tmp_path_factory.mktemp("encodec") / "tiny")


@torch.no_grad()
@pytest.mark.parametrize(("samples", "frames"), [(24000, 75), (2400, 8), (2401, 8), (240000, 750)])
def test_a_frame_for_every_320_samples_of_24_khz(folder, samples, frames):
    embedding = EncodecEmbedding(folder)
    assert embedding(0.1 * torch.randn(2, 1, samples)).shape == (2, frames, 8)
    assert (embedding.sample_rate, embedding.width, embedding.name) == (24000, 8, "encodec")
    assert embedding.identity.window == "13.3 ms encoder frames"


@torch.no_grad()
def test_quantizing_the_frames_gives_the_codes_of_the_whole_model(folder):
    waveform = 0.5 * torch.randn(1, 1, 9600)
    model = EncodecModel.from_pretrained(folder).eval()
    codes = model.encode(waveform, bandwidth=6.0).audio_codes[0]
    frames = EncodecEmbedding(folder)(waveform)
    assert torch.equal(model.quantizer.encode(frames.transpose(1, 2), 6.0).transpose(0, 1), codes)
    assert codes.float().std() > 0


@torch.no_grad()
def test_clips_of_a_batch_do_not_touch_each_other(folder):
    embedding = EncodecEmbedding(folder)
    waveform = 0.5 * torch.randn(3, 1, 9600)
    torch.testing.assert_close(embedding(waveform)[1:2], embedding(waveform[1:2]), rtol=0, atol=1e-6)


def test_the_default_width_is_that_of_the_public_model():
    assert EncodecConfig().hidden_size == 128


def test_the_identity_is_of_the_encoders_weights(folder, tmp_path):
    embedding = EncodecEmbedding(folder)
    other = EncodecEmbedding(write_encodec(tmp_path / "other", seed=1))
    assert embedding.identity.weights == hash_weights(embedding.encoder) != other.identity.weights
    assert not any(parameter.requires_grad for parameter in embedding.parameters())


def test_what_cannot_be_used_is_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encodec needs weights: hf download facebook/encodec_24khz"):
        EncodecEmbedding(None)
    with pytest.raises(FileNotFoundError, match="there is no folder no_such_folder"):
        EncodecEmbedding("no_such_folder")
    stereo = write_encodec(tmp_path / "stereo", audio_channels=2, normalize=True)
    with pytest.raises(ValueError, match=r"EnCodec of 2 channel\(s\), normalize True; .* facebook/encodec_24khz"):
        EncodecEmbedding(stereo)
