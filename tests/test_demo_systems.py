"""The script that makes the systems which ship: what two of them have in common is stored once."""

import importlib.util
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_systems import ToyEmbedding, toy_melody, toy_musiccm

from melody_cm.comparison.clips import describe_pipeline
from melody_cm.data import open_corpus
from melody_cm.evaluation.results import Results, Row
from melody_cm.evaluation.score import Score
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.pipelines.pretrained import DEMOS

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


def test_rounded_weights_are_near_and_take_few_values(ship):
    network = nn.Linear(64, 32)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    ship.round_matrices(network)
    assert torch.equal(network.bias, before["bias"])
    weight = network.weight.detach()
    error = (weight - before["weight"]).abs() / before["weight"].abs()
    assert 1 / 128 < float(error.max()) <= 1 / 64
    # Thirty-two mantissas with either sign, and the next power of two.
    assert len((weight / 2 ** weight.abs().log2().floor()).unique()) == 64
    assert torch.equal(weight.half().float(), weight)


def test_what_a_comparison_found_gets_into_the_card_and_leaves_the_weights(ship, tmp_path):
    toy_musiccm().save_pretrained(tmp_path / "toy", half=True)
    system = PretrainedPipeline.from_pretrained(tmp_path / "toy")
    told = {"systems": {"mine": describe_pipeline(system)}, "placement": {"device": "cpu", "precision": "fp32"}}
    told |= {"prompts": ["a"], "seeds": [0], "seconds": 1.0, "created": "2026-01-02T03:04:05", "reference": "test"}
    embedding = asdict(ToyEmbedding().identity)
    score = Score(1.0, 0.5, 0.25, 0.75, "", 8, 16, too_few=False, embedding=embedding)
    Results("compare", told, [Row("mine", {"kad_toy": score}, 4)]).write(tmp_path / "results.json")
    ship.add_results(tmp_path / "toy", tmp_path / "results.json")
    card = (tmp_path / "toy" / "README.md").read_text(encoding="utf-8")
    assert "| 4 | kad_toy | 0.5 [0.25, 0.75] | toy 1, weights none | 8 / 16 |" in card
    assert PretrainedPipeline.from_pretrained(tmp_path / "toy").weight_hashes() == system.weight_hashes()


# A stage of each with its steps, and what the model card says of it.
SHIPPED = {
    "musiccm": "| musiccm/3_teacher | cpu | 7061 | 7935 |",
    "musiccm_teacher": "| musiccm/3_teacher | cpu | 7061 | 7935 |",
    "melody": "| melody/6_dual_path_diffusion | cpu | 6542 | 7935 |",
    "melody_cm": "| melody/6_dual_path_diffusion | cpu | 6542 | 7935 |",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_of_a_system_that_ships_tells_results_steps_and_licences(name):
    card = (DEMOS / name / "README.md").read_text(encoding="utf-8")
    results, training = card.partition("## Results")[2].split("## Training")
    assert re.search(
        r"\| kad_musicnn \| [\d.]+ \[\S+, \S+\] \| musicnn 1, weights \w+ \| 158 \(158\) / 96 \(25\) \|", results
    )
    assert SHIPPED[name] in training
    assert "Licences of the music: BSD-3-Clause, CC-BY" in training


@pytest.mark.parametrize("name", SHIPPED)
def test_a_system_that_ships_makes_other_music_for_another_prompt(name):
    system = PretrainedPipeline.from_pretrained(f"demo:{name}")
    piano, march = system(["slow solo piano", "a festive march for brass band"], seconds=2.0, num_steps=1).waveform
    quietest = 0.01 if name.startswith("musiccm") else 0.002  # MeLoDy's slow piano is very quiet.
    for sound in (piano, march):
        assert quietest < float(sound.square().mean().sqrt()) < 0.5
    assert float((piano - march).square().mean()) > 1e-4
    assert {"shared/1_joint_embedding", SHIPPED[name].split()[1]} <= set(system.history)


def test_what_ships_says_its_licences():
    assert "FREEDOOM" in (DEMOS / "LICENSES.txt").read_text(encoding="utf-8")
    splits = open_corpus(str(SCRIPT.parent / "real")).splits()
    assert (len(splits["test"]), len(splits["valid"])) == (96, 48)
