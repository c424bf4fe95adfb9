"""The examples run as they stand: the cells of the notebook in order, and the network of one's own for two steps."""

import importlib
import json
from pathlib import Path

import pytest
import soundfile
import torch
from long_toys import tiny_melody
from toy_systems import toy_musiccm

import melody_cm
from melody_cm.interfaces import Conditioning
from melody_cm.storage import read_json

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FEW = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.corpus.num_clips=48"]


@pytest.fixture
def own_network(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    return importlib.import_module("own_network")


def test_the_own_network_keeps_what_a_denoiser_promises(own_network):
    torch.manual_seed(0)
    denoiser = own_network.GatedDenoiser(**own_network.NETWORK["init_args"])
    noisy, pooled, angles = torch.randn(2, 8, 30), torch.randn(2, 48), torch.tensor([0.3, 1.2])
    conditioning = Conditioning(None, pooled, None, torch.tensor([False, True]))
    velocity = denoiser(noisy, angles, conditioning)
    assert velocity.shape == noisy.shape
    torch.testing.assert_close(denoiser(noisy, angles[:, None].expand(-1, 30), conditioning), velocity)
    otherwise = denoiser(noisy, angles, Conditioning(None, -pooled, None, conditioning.dropped))
    assert not torch.equal(otherwise[0], velocity[0])
    assert torch.equal(otherwise[1], velocity[1]), "a dropped clip does not know its condition"


@pytest.mark.slow
def test_the_own_network_is_trained(own_network, capsys):
    own_network.main(overrides=FEW)
    stage = Path("runs/own_network/melody/6_dual_path_diffusion")
    assert read_json(stage / "export/denoiser/config.json")["class_path"] == "own_network.GatedDenoiser"
    assert "runs code from outside melody_cm: own_network" in capsys.readouterr().out


def run_notebook(folder, monkeypatch):
    """All that its cells define, run in order in an empty folder."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    names: dict[str, object] = {}
    for cell in json.loads((EXAMPLES / "first_music.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "a notebook is kept without outputs"
            exec("".join(cell["source"]), names)
    assert soundfile.info("first_music.flac").duration == pytest.approx(names["seconds"])
    return names


def test_the_notebook_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = run_notebook(tmp_path, monkeypatch)
    assert names["pipeline"].history["musiccm/4_consistency_distillation"]["steps"] == 1500
    assert 0.01 < float(names["audio"].waveform.square().mean().sqrt()) < 0.5
    assert not torch.equal(*names["clips"].waveform)


@pytest.mark.parametrize("toy", [tiny_melody, toy_musiccm])
def test_the_notebook_runs_on_any_system(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(melody_cm, "load", lambda source: toy(), raising=False)
    run_notebook(tmp_path, monkeypatch)
    assert Path("first_music_longer.flac").is_file() == (toy is tiny_melody)
