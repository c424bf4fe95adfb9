"""The script that makes the systems which ship: what two of them have in common is stored once."""

import importlib.util
from pathlib import Path

import pytest
from toy_systems import toy_melody, toy_musiccm

from melody_cm.pipelines import PretrainedPipeline

SCRIPT = Path(__file__).resolve().parents[1] / "recipes/demo/ship.py"


@pytest.fixture(scope="module")
def ship():
    spec = importlib.util.spec_from_file_location("demo_ship", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_networks_that_systems_share_are_stored_once_and_every_system_stays_whole(ship, tmp_path, monkeypatch):
    monkeypatch.setattr("melody_cm.pipelines.pretrained.DEMOS", tmp_path)
    musiccm, melody = toy_musiccm(), toy_melody()
    student = toy_melody(guidance_scale=1.0, guidance_embedded=True)
    melody.joint_embedding = student.joint_embedding = musiccm.joint_embedding
    student.denoiser.mix.weight.data += 1
    systems = {"musiccm": musiccm, "melody": melody, "melody_cm": student}
    for name, system in systems.items():
        system.save_pretrained(tmp_path / name)
        if (shares := ship.SYSTEMS[name][0]) is not None:
            ship.leave_out_shared(tmp_path, name, shares)
    assert {each.name for each in (tmp_path / "melody_cm").iterdir() if each.is_dir()} == {"denoiser"}
    assert not (tmp_path / "melody" / "joint_embedding").exists()
    assert (tmp_path / "melody" / "autoencoder").exists()
    for name, system in systems.items():
        assert PretrainedPipeline.from_pretrained(f"demo:{name}").weight_hashes() == system.weight_hashes()
