import pytest
import torch
from torch import nn

from melody_cm.interfaces import Autoencoder, Conditioner, Conditioning
from melody_cm.storage import FrozenAutoencoder, build, describe, load_network, save_network, thaw, write_json


class Halving(Autoencoder):
    """A toy autoencoder for these tests."""

    def __init__(self, sample_rate: int = 16000):
        super().__init__()
        self.sample_rate, self.latent_channels = sample_rate, 1
        self.gain = nn.Parameter(torch.tensor(0.5))

    def posterior(self, waveform):
        return waveform * self.gain, torch.ones_like(waveform)

    def reconstruct(self, waveform, draws):
        raise NotImplementedError

    def decode(self, latent):
        return latent / self.gain

    def latent_shape(self, seconds):
        return (1, round(seconds * self.sample_rate))


class Listening(Conditioner):
    """A conditioner that reads a frozen stage."""

    def __init__(self, autoencoder: Autoencoder | None):
        super().__init__()
        self.autoencoder = autoencoder
        self.scale = nn.Parameter(torch.ones(()))

    def describe(self, batch):
        return self.autoencoder.encode(batch.waveform)

    def embed(self, source):
        return Conditioning(None, source[:, 0] * self.scale, None, torch.zeros(len(source), dtype=torch.bool))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path / "demo"))
    stage = tmp_path / "demo/melody/5_audio_vae_gan"
    save_network(Halving(), stage / "export/autoencoder")
    write_json(stage / "finished.json", {})
    return tmp_path / "demo"


def test_a_frozen_stage_never_learns_and_stays_out_of_checkpoints(run):
    frozen = FrozenAutoencoder("melody/5_audio_vae_gan")
    owner = nn.ModuleDict({"frozen": frozen, "own": nn.Linear(1, 1)}).train()
    assert not frozen.training
    assert not frozen.network.training
    assert [name for name, parameter in owner.named_parameters() if parameter.requires_grad] == [
        "own.weight",
        "own.bias",
    ]
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert frozen.sample_rate == 16000
    assert isinstance(thaw(frozen), Halving)


def test_a_missing_stage_names_the_recipe_that_makes_it(run):
    with pytest.raises(FileNotFoundError, match=r"melody/9_none is not finished .*recipes/melody/9_none.yaml"):
        FrozenAutoencoder("melody/9_none")


def test_a_network_that_refers_to_a_stage_reloads_in_the_run_and_travels_without_it(run, tmp_path):
    listening = Listening(FrozenAutoencoder("melody/5_audio_vae_gan"))
    save_network(listening, tmp_path / "inside")
    again = load_network(tmp_path / "inside")
    assert isinstance(again.autoencoder, FrozenAutoencoder)
    save_network(listening, tmp_path / "portable", portable=True)
    alone = load_network(tmp_path / "portable")
    assert alone.autoencoder is None
    source = torch.randn(2, 1, 4)
    assert torch.equal(alone.embed(source).pooled, listening.embed(source).pooled)


def test_a_frozen_slot_is_described_by_its_stage(run):
    config = describe(FrozenAutoencoder("melody/5_audio_vae_gan"))
    assert config == {
        "class_path": "melody_cm.storage.frozen.FrozenAutoencoder",
        "init_args": {"stage": "melody/5_audio_vae_gan"},
    }
    assert isinstance(build(config), FrozenAutoencoder)
