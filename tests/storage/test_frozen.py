"""Finished stages as parts of other networks: the real classes, frozen."""

import pytest
import torch
from torch import nn

from melody_cm.interfaces import Autoencoder, Conditioner, Conditioning, Denoiser
from melody_cm.storage import build, describe, hash_weights, load_network, load_stage, save_network, write_json
from melody_cm.training.ema import averaged_copy

STAGE = "melody/5_audio_vae_gan"


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
    stage = tmp_path / "demo" / STAGE
    save_network(Halving(), stage / "export/autoencoder")
    save_network(Listening(None), stage / "export/conditioner")
    write_json(stage / "finished.json", {})
    return tmp_path / "demo"


def test_a_stage_is_the_real_class_and_the_export_that_fits_the_place(run):
    assert type(load_stage(STAGE, Autoencoder)) is Halving
    assert type(load_stage(STAGE, Conditioner | None)) is Listening
    with pytest.raises(ValueError, match=r"exports autoencoder \(Halving\), conditioner .*: 0 of them are a Denoiser"):
        load_stage(STAGE, Denoiser)
    with pytest.raises(ValueError, match="2 of them are a Network"):
        load_stage(STAGE)


def test_a_frozen_stage_never_learns_and_stays_out_of_checkpoints(run):
    frozen = load_stage(STAGE, Autoencoder)
    owner = nn.ModuleDict({"frozen": frozen, "own": nn.Linear(1, 1)}).train()
    assert not frozen.training
    learning = [name for name, parameter in owner.named_parameters() if parameter.requires_grad]
    assert learning == ["own.weight", "own.bias"]
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert set(frozen.state_dict()) == {"gain"}, "its own weights can be read"


def test_a_missing_stage_names_the_recipe_that_makes_it(run):
    with pytest.raises(FileNotFoundError, match=r"melody/9_none is not finished .*recipes/melody/9_none.yaml"):
        load_stage("melody/9_none")


def test_a_network_that_refers_to_a_stage_reloads_in_the_run_and_travels_without_it(run, tmp_path):
    listening = Listening(load_stage(STAGE, Autoencoder))
    save_network(listening, tmp_path / "inside")
    again = load_network(tmp_path / "inside", own=True)
    assert (type(again.autoencoder), again.autoencoder.stage) == (Halving, STAGE)
    save_network(listening, tmp_path / "portable", portable=True)
    alone = load_network(tmp_path / "portable")
    assert alone.autoencoder is None
    source = torch.randn(2, 1, 4)
    assert torch.equal(alone.embed(source).pooled, listening.embed(source).pooled)
    assert hash_weights(alone) == hash_weights(listening), "what is frozen inside does not count"


def test_a_frozen_network_is_described_by_its_stage_and_saved_whole(run, tmp_path):
    frozen = load_stage(STAGE, Autoencoder)
    assert describe(frozen) == f"stage:{STAGE}"
    assert describe(Listening(frozen))["init_args"] == {"autoencoder": f"stage:{STAGE}"}
    assert type(build({**describe(Listening(frozen))}).autoencoder) is Halving
    save_network(frozen, tmp_path / "alone")
    assert not load_network(tmp_path / "alone").frozen


def test_the_copy_of_a_frozen_network_learns_and_shares_what_is_frozen_inside(run):
    frozen = load_stage(STAGE, Autoencoder)
    student = averaged_copy(frozen).requires_grad_(True).train()
    assert student.training
    assert not student.frozen
    assert frozen.frozen
    listening = Listening(frozen)
    assert averaged_copy(listening).autoencoder is frozen


def frozen_halving(sample_rate: int = 8000) -> Autoencoder:
    """A factory function, as public weights have one."""
    origin = {"class_path": "test_frozen.frozen_halving", "init_args": {"sample_rate": sample_rate}}
    return Halving(sample_rate).freeze("public/halving", origin)


def test_a_function_can_make_a_part_and_is_remembered_as_its_origin(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "test_frozen", __import__("sys").modules[__name__])
    built = build({"class_path": "test_frozen.frozen_halving", "init_args": {"sample_rate": 800}}, Autoencoder)
    assert (type(built), built.sample_rate, built.stage) == (Halving, 800, "public/halving")
    assert type(build(describe(Listening(built))).autoencoder) is Halving
