"""Pipelines on disk: what is saved is what is loaded, and everything else is refused with one clear line."""

import json
import shutil
import sys

import pytest
import torch
from toy_systems import ToyDenoiser, toy_melody, toy_musiccm, toy_teacher

from melody_cm.diffusion import UniformAngles
from melody_cm.pipelines import MeLoDy, MusicCM, PretrainedPipeline
from melody_cm.storage import hash_weights, load_network, load_stage, read_json, save_network, write_json
from melody_cm.storage.stages import RUN_VARIABLE


@pytest.mark.parametrize("make", [toy_melody, toy_musiccm, toy_teacher])
def test_a_loaded_pipeline_makes_bit_equal_audio(make, tmp_path):
    pipeline = make()
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = PretrainedPipeline.from_pretrained(tmp_path / "saved")
    assert type(loaded) is type(pipeline)
    for kind in (type(pipeline), PretrainedPipeline):
        audio = kind.from_pretrained(str(tmp_path / "saved")).generate(["a", "b"], 0.5, seed=1).waveform
        assert torch.equal(audio, pipeline.generate(["a", "b"], 0.5, seed=1).waveform)
    assert loaded.weight_hashes() == pipeline.weight_hashes()


def test_the_folder_holds_one_network_a_slot_plain_settings_and_a_card(tmp_path):
    toy_melody(num_steps=9).save_pretrained(tmp_path / "saved")
    slots = ["joint_embedding", "joint_tokenizer", "semantic_tokenizer", "semantic_lm"]
    slots += ["conditioner", "denoiser", "autoencoder"]
    for slot in slots:
        assert {file.name for file in (tmp_path / "saved" / slot).iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["networks"] == slots
    assert config["init_args"]["num_steps"] == 9
    assert config["init_args"]["schedule"]["class_path"].endswith("LinearAngles")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "MeLoDy" in card
    assert "ToyDenoiser" in card


def test_a_frozen_stage_is_saved_as_the_network_inside(tmp_path, monkeypatch):
    pipeline = toy_melody()
    stage = tmp_path / "run" / "melody" / "5_audio_vae_gan"
    save_network(pipeline.autoencoder, stage / "export" / "autoencoder")
    write_json(stage / "finished.json", {})
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path / "run"))
    arguments = {**pipeline.init_arguments, "autoencoder": load_stage("melody/5_audio_vae_gan")}
    frozen = MeLoDy(**arguments)
    frozen.save_pretrained(tmp_path / "saved")
    monkeypatch.delenv(RUN_VARIABLE)
    assert type(load_network(tmp_path / "saved" / "autoencoder")).__name__ == "ToyAutoencoder"
    loaded = MeLoDy.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.generate(["a"], 0.5).waveform, pipeline.generate(["a"], 0.5).waveform)
    assert loaded.weight_hashes() == frozen.weight_hashes() == pipeline.weight_hashes()


def test_what_was_replaced_is_what_is_used_and_saved(tmp_path):
    """The pipeline as it stands, not as its constructor was called."""
    pipeline, other = toy_melody(), ToyDenoiser()
    torch.nn.init.constant_(other.condition.bias, 0.3)
    pipeline.schedule, pipeline.denoiser, pipeline.num_steps = UniformAngles(), other, 1
    assert pipeline.networks["denoiser"] is other
    assert pipeline.weight_hashes()["denoiser"] == hash_weights(other)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = MeLoDy.from_pretrained(tmp_path / "saved")
    assert (type(loaded.schedule), loaded.num_steps) == (UniformAngles, 1)
    assert torch.equal(loaded.denoiser.condition.bias, other.condition.bias)
    made = pipeline.generate(["a"], 0.5).waveform
    assert torch.equal(loaded.generate(["a"], 0.5).waveform, made)
    assert not torch.equal(toy_melody().generate(["a"], 0.5).waveform, made)
    assert pipeline.to(torch.device("meta")).device.type == other.mix.weight.device.type == "meta"
    pipeline.autoencoder.sample_rate = 1600
    assert pipeline.sample_rate == 1600


def test_a_pipeline_of_ones_own_class_is_saved_by_its_attributes(tmp_path):
    class Few(MusicCM):
        def __init__(self, toy: str = "student") -> None:
            super().__init__(**toy_musiccm().init_arguments | {"num_steps": 2})

    assert torch.equal(Few().generate(["a"], 0.5).waveform, toy_musiccm().generate(["a"], 0.5, num_steps=2).waveform)
    assert Few().settings()["init_args"] == {"toy": "student"}


def test_weight_hashes_tell_changed_weights(tmp_path):
    pipeline, before = toy_melody(), toy_melody().weight_hashes()
    with torch.no_grad():
        pipeline.denoiser.mix.bias[0] += 1e-3
    changed = {name for name, value in pipeline.weight_hashes().items() if value != before[name]}
    assert changed == {"denoiser"}


def test_to_moves_every_network():
    pipeline = toy_melody()
    assert pipeline.to(torch.device("meta")) is pipeline
    assert pipeline.device.type == "meta"
    assert {p.device.type for network in pipeline.networks.values() for p in network.parameters()} == {"meta"}


def test_another_system_is_refused_by_name(tmp_path):
    toy_melody().save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="holds a MeLoDy, not a MusicCM"):
        MusicCM.from_pretrained(tmp_path / "saved")


def test_folders_without_a_pipeline_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        MeLoDy.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        MeLoDy.from_pretrained(tmp_path)
    save_network(toy_melody().denoiser, tmp_path / "network")
    with pytest.raises(ValueError, match="describes no pipeline"):
        MeLoDy.from_pretrained(tmp_path / "network")
    toy_melody().save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "denoiser" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        MeLoDy.from_pretrained(tmp_path / "saved")


def test_a_hub_name_without_a_connection_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no model of that name can be had") as error:
        MeLoDy.from_pretrained("nobody/no-such-model")
    assert "\n" not in str(error.value)


def test_a_failed_save_leaves_the_old_pipeline(tmp_path, monkeypatch):
    pipeline = toy_melody()
    pipeline.save_pretrained(tmp_path / "saved")
    monkeypatch.setattr("melody_cm.pipelines.pretrained.model_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        toy_melody(num_steps=9).save_pretrained(tmp_path / "saved")
    assert MeLoDy.from_pretrained(tmp_path / "saved").num_steps == pipeline.num_steps
    assert [folder.name for folder in tmp_path.iterdir()] == ["saved"]


def test_a_folder_with_something_else_in_it_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else"):
        toy_melody().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("networks", None, "networks must be a list"),
        ("networks", ["joint_embedding", "../elsewhere"], r"a network '\.\./elsewhere', which a MusicCM does not have"),
        ("class_path", None, "class_path is None"),
        ("class_path", "idlelib.idle.X", "--trust-module idlelib.idle"),
        ("sampler", {"class_path": "idlelib.idle.X", "init_args": {}}, "--trust-module idlelib.idle"),
        (
            "sampler",
            {"class_path": "melody_cm.data.ManifestCorpus", "init_args": {"path": "x"}},
            "ManifestCorpus is no Sampler",
        ),
        ("schedule", {"class_path": "melody_cm.autoencoders.GriffinLim", "init_args": {}}, "GriffinLim|schedule"),
    ],
)
def test_a_saved_folder_that_asks_for_something_else_is_refused_in_one_line(tmp_path, key, value, reason):
    toy_musiccm().save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    (config if key in config else config["init_args"])[key] = value
    write_json(tmp_path / "saved/config.json", config)
    with pytest.raises(ValueError, match=reason):
        PretrainedPipeline.from_pretrained(tmp_path / "saved")
    assert "idlelib.idle" not in sys.modules


@pytest.mark.parametrize("make", [toy_melody, toy_musiccm])
def test_half_the_size_is_nearly_the_same_sound_and_whole_numbers_again(make, tmp_path):
    pipeline = make()
    for half in (False, True):
        pipeline.save_pretrained(tmp_path / str(half), half=half)
    loaded = [PretrainedPipeline.from_pretrained(tmp_path / str(half)) for half in (False, True)]
    for whole, stored in zip(*(each.networks.values() for each in loaded), strict=True):
        rounded = dict(stored.named_parameters())
        for name, value in whole.named_parameters():
            expected = value.half().float() if value.ndim > 1 else value
            assert rounded[name].dtype == torch.float32
            assert torch.equal(rounded[name], expected), name
        for (name, value), (_, other) in zip(whole.named_buffers(), stored.named_buffers(), strict=True):
            assert torch.equal(value, other), name
    audio, again = (each.generate(["a"], 0.5, seed=1).waveform for each in loaded)
    assert not torch.equal(audio, again)
    assert (audio - again).abs().max() < 0.02


def test_half_refuses_what_it_cannot_hold(tmp_path):
    pipeline = toy_melody()
    torch.nn.init.constant_(pipeline.denoiser.mix.weight, 1e5)
    with pytest.raises(ValueError, match=r"mix\.weight holds numbers beyond the 65504 of fp16"):
        pipeline.save_pretrained(tmp_path / "saved", half=True)
    assert not (tmp_path / "saved").exists()


def test_a_pipeline_in_half_precision_is_saved_so_that_it_can_be_loaded(tmp_path):
    toy_musiccm().to("cpu", torch.bfloat16).save_pretrained(tmp_path / "saved")
    loaded = MusicCM.from_pretrained(tmp_path / "saved")
    assert {value.dtype for network in loaded.networks.values() for value in network.parameters()} == {torch.float32}


def test_a_system_that_ships_is_found_by_name_or_the_others_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.pipelines.pretrained.DEMOS", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no demo:musiccm; with this version come: none"):
        PretrainedPipeline.from_pretrained("demo:musiccm")
    toy_musiccm().save_pretrained(tmp_path / "musiccm")
    assert isinstance(PretrainedPipeline.from_pretrained("demo:musiccm"), MusicCM)
    with pytest.raises(FileNotFoundError, match=r"there is no demo:\.\./x; with this version come: musiccm"):
        PretrainedPipeline.from_pretrained("demo:../x")


def test_a_system_that_ships_takes_what_it_lacks_from_the_one_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.pipelines.pretrained.DEMOS", tmp_path)
    for name in ("first", "second", "third"):
        toy_musiccm().save_pretrained(tmp_path / name)
    for name, shares in (("second", "first"), ("third", "second")):
        config = read_json(tmp_path / name / "config.json")
        write_json(tmp_path / name / "config.json", config | {"shares": shares})
        shutil.rmtree(tmp_path / name / "denoiser")
    hashes = [PretrainedPipeline.from_pretrained(f"demo:{name}").weight_hashes() for name in ("first", "third")]
    assert hashes[0]["denoiser"] == hashes[1]["denoiser"]
    config = read_json(tmp_path / "second" / "config.json")
    write_json(tmp_path / "second" / "config.json", config | {"shares": "../elsewhere"})
    with pytest.raises(FileNotFoundError, match=r"there is no demo:\.\./elsewhere"):
        PretrainedPipeline.from_pretrained("demo:second")


def test_a_folder_elsewhere_never_takes_networks_of_its_neighbours(tmp_path):
    for name in ("first", "second"):
        toy_musiccm().save_pretrained(tmp_path / name)
    config = read_json(tmp_path / "second" / "config.json")
    write_json(tmp_path / "second" / "config.json", config | {"shares": "first"})
    shutil.rmtree(tmp_path / "second" / "denoiser")
    with pytest.raises(FileNotFoundError):
        PretrainedPipeline.from_pretrained(tmp_path / "second")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e6])
@pytest.mark.parametrize("make", [toy_musiccm, toy_melody])
def test_windows_of_a_length_that_nothing_is_trained_on_are_refused(make, seconds):
    with pytest.raises(ValueError, match=r"max_seconds is .* at most 600 seconds"):
        make(max_seconds=seconds)
