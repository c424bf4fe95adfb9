"""The public EnCodec as a codec, from tiny folders of the public layout, and its authors' package behind a stand-in."""

import builtins
import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import EncodecConfig, EncodecModel

from melody_cm.autoencoders import EncodecCodec, EncodecPackageCodec
from melody_cm.storage import hash_weights, load_network, save_network

TINY = {"num_filters": 2, "hidden_size": 8, "codebook_size": 16, "num_lstm_layers": 1}
# A codebook of 16 codes takes 75 * 4 bits a second: 0.3 kbit/s.
BANDWIDTHS = [0.6, 1.2, 3.6]


def write_encodec(folder, **settings):
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**{**TINY, "target_bandwidths": BANDWIDTHS, **settings}))
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.1)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encodec(tmp_path_factory.mktemp("encodec_codec") / "tiny")


@pytest.mark.parametrize(("num_codebooks", "bandwidth"), [(1, 0.6), (2, 0.6), (3, 1.2), (4, 1.2), (12, 3.6)])
def test_codes_and_sound_are_those_of_the_model_itself(folder, num_codebooks, bandwidth):
    codec, model = EncodecCodec(folder, num_codebooks), EncodecModel.from_pretrained(folder).eval()
    waveform = 0.5 * torch.randn(2, 1, 4801)
    with torch.no_grad():
        expected = model.encode(waveform, bandwidth=bandwidth).audio_codes[0]
        sound = model.decode(expected[None, :, :num_codebooks], [None]).audio_values
    codes = codec.encode_codes(waveform)
    assert codec.bandwidth == bandwidth
    assert torch.equal(codes, expected[:, :num_codebooks])
    assert codes.shape == (2, num_codebooks, 16)
    assert len(codes[:, 0].unique()) > 1
    assert torch.equal(codec.decode_codes(codes), sound)
    assert sound.shape == (2, 1, 16 * 320)


def test_it_says_its_rates_to_whoever_lays_out_tokens(folder):
    codec = EncodecCodec(folder)
    assert (codec.sample_rate, codec.frame_rate, codec.num_codebooks, codec.codebook_size) == (24000, 75.0, 12, 16)
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_the_public_model_holds_12_codebooks_at_12_kbit_a_second():
    settings = EncodecConfig(num_filters=2, num_lstm_layers=1, hidden_size=8).to_diff_dict()
    codec = EncodecCodec(config=settings, num_codebooks=12)
    assert (codec.bandwidth, codec.frame_rate, codec.codebook_size) == (12.0, 75.0, 1024)
    with pytest.raises(ValueError, match="num_codebooks is 33, but this EnCodec has 1 to 32"):
        EncodecCodec(config=settings, num_codebooks=33)


def test_what_the_first_codebooks_give_does_not_depend_on_the_others(folder):
    waveform = 0.5 * torch.randn(1, 1, 3200)
    few, many = EncodecCodec(folder, 2), EncodecCodec(folder, 12)
    assert torch.equal(many.encode_codes(waveform)[:, :2], few.encode_codes(waveform))
    codes = few.encode_codes(waveform)
    assert torch.equal(many.decode_codes(codes), few.decode_codes(codes))


def test_an_export_needs_the_public_folder_no_more(tmp_path):
    source = write_encodec(tmp_path / "public")
    codec, waveform = EncodecCodec(source, 3), 0.5 * torch.randn(1, 1, 3200)
    save_network(codec, tmp_path / "export")
    for file in (tmp_path / "public").iterdir():
        file.unlink()
    loaded = load_network(tmp_path / "export")
    assert torch.equal(loaded.encode_codes(waveform), codec.encode_codes(waveform))
    assert loaded.init_arguments == codec.init_arguments


def test_what_cannot_be_used_is_one_clear_error(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"no folder no_such .* hf download .* then give FOLDER as source"):
        EncodecCodec("no_such")
    with pytest.raises(ValueError, match=r"takes a source, e\.g\. facebook/encodec_24khz, or the config"):
        EncodecCodec()
    stereo = write_encodec(tmp_path / "stereo", audio_channels=2, normalize=True, chunk_length_s=1.0, overlap=0.01)
    with pytest.raises(ValueError, match=r"EnCodec of 2 channel\(s\), normalize True, chunks of 1.0 s"):
        EncodecCodec(stereo)
    for count in (0, 13):
        with pytest.raises(ValueError, match=f"num_codebooks is {count}, but this EnCodec has 1 to 12"):
            EncodecCodec(folder, count)
    with pytest.raises(ValueError, match=r"codes 0 \.\. 16, but the codec's are 0 \.\. 15"):
        EncodecCodec(folder, 2).decode_codes(torch.tensor([[[0], [16]]]))


class PackageModel(nn.Module):
    """The part of encodec.EncodecModel that is used, as its source of version 0.1.1 has it; codes are sign bits."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.frame_rate = 24000, 75
        self.target_bandwidths = [1.5, 3.0, 6, 12.0, 24.0]
        self.quantizer = SimpleNamespace(bins=1024)
        self.encoder = nn.Conv1d(1, 32, 320, stride=320)
        self.decoder = nn.ConvTranspose1d(32, 1, 320, stride=320)

    @staticmethod
    def encodec_model_24khz(pretrained=True, repository=None):
        assert not pretrained, "that would download"
        return PackageModel()

    def set_target_bandwidth(self, bandwidth):
        assert bandwidth in self.target_bandwidths
        self.bandwidth = bandwidth

    def encode(self, x):
        codes = (self.encoder(x) > 0).long()
        return [(codes[:, : int(self.bandwidth / 0.75)], None)]

    def decode(self, frames):
        [(codes, scale)] = frames
        assert scale is None
        return self.decoder(nn.functional.pad(codes.float(), (0, 0, 0, 32 - codes.shape[1])))


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("encodec")
    module.EncodecModel = PackageModel
    monkeypatch.setitem(sys.modules, "encodec", module)


def test_the_package_gives_its_first_codebooks(package, tmp_path):
    model = PackageModel()
    torch.save(model.state_dict(), tmp_path / "weights.th")
    codec = EncodecPackageCodec(str(tmp_path / "weights.th"), num_codebooks=12)
    waveform = torch.randn(2, 1, 3200)
    codes = codec.encode_codes(waveform)
    assert torch.equal(codes, (model.encoder(waveform) > 0)[:, :12].long())
    assert codec.model.bandwidth == 12.0
    assert codec.decode_codes(codes).shape == (2, 1, 3200)
    assert (codec.sample_rate, codec.frame_rate, codec.num_codebooks, codec.codebook_size) == (24000, 75.0, 12, 1024)
    with pytest.raises(ValueError, match="num_codebooks is 40, but this EnCodec has 1 to 32"):
        EncodecPackageCodec(str(tmp_path / "weights.th"), num_codebooks=40)


def test_an_export_of_the_package_s_codec_names_no_file_and_needs_none(package, tmp_path):
    weights, waveform = tmp_path / "weights.th", torch.randn(1, 1, 3200)
    torch.save(PackageModel().state_dict(), weights)
    codec = EncodecPackageCodec(str(weights), num_codebooks=4)
    save_network(codec, tmp_path / "export")
    assert str(tmp_path) not in (tmp_path / "export/config.json").read_text()
    weights.unlink()
    loaded = load_network(tmp_path / "export")
    assert torch.equal(loaded.encode_codes(waveform), codec.encode_codes(waveform))
    assert loaded.num_codebooks == 4


def test_an_older_export_that_names_its_file_is_read_where_the_file_is(package, tmp_path):
    weights = tmp_path / "weights.th"
    torch.save(PackageModel().state_dict(), weights)
    codec = EncodecPackageCodec(str(weights))
    codec.init_arguments = {"weights": str(weights), "num_codebooks": 12}
    save_network(codec, tmp_path / "export")
    assert hash_weights(load_network(tmp_path / "export")) == hash_weights(codec)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*weights\.th"):
        load_network(tmp_path / "export")


def test_the_package_takes_no_other_file(package, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.th .* get it: curl -LO https://dl"):
        EncodecPackageCodec("nowhere.th")
    (tmp_path / "text.th").write_text("no weights")
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.th")
    for name in ("text.th", "other.th"):
        with pytest.raises(ValueError, match=f"{name} holds no weights of EnCodec"):
            EncodecPackageCodec(str(tmp_path / name))


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    def refuse(name, *arguments):
        raise OSError("libtorch_cuda.so: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=r"libtorch_cuda.*pip install 'melody_cm\[encodec\]'.*or use EncodecCodec"):
        EncodecPackageCodec("weights.th")


def test_only_the_package_codec_asks_for_the_package(monkeypatch, folder):
    real = builtins.__import__

    def watched(name, *arguments, **named):
        assert name.split(".")[0] != "encodec", "the optional package was imported"
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", watched)
    EncodecCodec(folder, 1).encode_codes(torch.zeros(1, 1, 320))
