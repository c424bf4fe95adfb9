"""Every pipeline preset builds its pipeline from the finished stages that it names."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from toy_systems import toy_melody, toy_musiccm, toy_musiclm, toy_teacher

from melody_cm.storage import build, save_network, write_json
from melody_cm.storage.stages import RUN_VARIABLE

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "pipeline"
TOYS = {"melody": toy_melody, "musiccm": toy_musiccm, "musiccm_teacher": toy_teacher, "musiclm": toy_musiclm}
TOYS["melody_cm"] = partial(toy_melody, guidance_scale=1.0, guidance_embedded=True)
EXPORTS = {"joint_tokenizer": "tokenizer", "semantic_tokenizer": "tokenizer"}
EXPORTS |= dict.fromkeys(("semantic_lm", "coarse_lm", "fine_lm"), "language_model")


# What takes parts from public folders or several stages a slot: test_musiccm_parts.py.
ELSEWHERE = {"musiccm_public", "musiccm_vocoder", "musiccm_teacher_vocoder"}


def test_every_preset_is_tested():
    assert {preset.stem for preset in PRESETS.glob("*.yaml")} == set(TOYS) | ELSEWHERE


@pytest.mark.parametrize("name", TOYS)
def test_a_preset_builds_the_pipeline_of_a_run(name, tmp_path, monkeypatch):
    toy, config = TOYS[name](), yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert set(toy.networks) < set(config["init_args"])
    for slot, network in toy.networks.items():
        stage = tmp_path / config["init_args"][slot].removeprefix("stage:")
        save_network(network, stage / "export" / EXPORTS.get(slot, slot))
        write_json(stage / "finished.json", {})
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    plain = {name: value for name, value in toy.init_arguments.items() if name not in config["init_args"]}
    pipeline = build({**config, "init_args": {**plain, **config["init_args"]}})
    assert type(pipeline) is type(toy)
    steps = min(2, toy.num_steps)
    made = pipeline.generate(["a", "b"], 0.5, num_steps=steps).waveform
    assert torch.equal(made, toy.generate(["a", "b"], 0.5, num_steps=steps).waveform)


def test_a_missing_stage_names_its_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"recipes/shared/1_joint_embedding\.yaml"):
        build(yaml.safe_load((PRESETS / "melody.yaml").read_text()))
