"""Every recipe composes at every size, is within its size's limits, and learns what it always learned at size tiny."""

import json
from pathlib import Path

import pytest
import yaml

from melody_cm.configuration import shipped
from melody_cm.runs import Run, Setting, plan, plan_stages
from melody_cm.runs.plan import count_parameters

RECIPES = sorted(path for path in shipped("recipes").rglob("*.yaml") if path.parent.name != "compare")
SIZES = ("tiny", "cpu", "small", "paper")
GOLDEN = Path(__file__).parent / "golden/tiny_losses.json"


def identify(path: Path) -> str:
    return path.relative_to(shipped("recipes")).with_suffix("").as_posix()


STAGES = [identify(path) for path in RECIPES if "ablations" not in path.parts]
NEW_CLASSES = ["ablations/network/unet1d", "ablations/network/unet2d"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*STAGES, *NEW_CLASSES])
def test_a_recipe_composes_and_its_networks_can_be_built(name, size):
    setting = Setting(size)
    recipe = setting.compose(name)
    limit = {"tiny": 2e6, "cpu": 4e6, "small": 30e6, "paper": 5e8}[size]
    assert 0 <= count_parameters(recipe, setting) < limit
    assert all((shipped("recipes") / f"{needed}.yaml").is_file() for needed in recipe.needs)


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_a_recipe_says_what_it_is(path):
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Paper:", "Needs:", "Produces:", "Command:"):
        assert word in " ".join(header), f"{identify(path)}: the header does not say {word}"


def test_every_preset_is_keys_and_values():
    for preset in shipped("configs").glob("*/*.yaml"):
        assert isinstance(yaml.safe_load(preset.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize(
    ("system", "stages"),
    [
        ("musiccm", ["shared/1_joint_embedding", *(f"musiccm/{n}" for n in ("1_mel_vae", "3_teacher"))]),
        ("melody", [f"melody/{n}" for n in ("2_semantic_tokenizer", "3_joint_tokenizer", "5_audio_vae_gan")]),
    ],
)
def test_a_folder_means_what_its_system_needs_in_order(system, stages):
    names = [recipe.name for recipe in plan(f"recipes/{system}", Setting("tiny"))]
    assert set(stages) < set(names)
    unneeded = {"melody": ("1_semantic_encoder", "7_consistency_distillation"), "musiccm": ("2_vocoder",)}[system]
    assert not [name for name in names if name.endswith(unneeded)], "the rest is trained on request"
    for recipe in plan(system, Setting("tiny")):
        assert all(names.index(needed) < names.index(recipe.name) for needed in recipe.needs)


def test_every_stage_runs_two_steps_at_tiny_size_with_the_losses_it_always_had(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    recipes = plan_stages([*STAGES, *NEW_CLASSES], Setting("tiny"))
    for recipe in recipes:
        recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
        key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
        recipe.config["trainer"] |= {key: 2, "val_check_interval": 2, "log_every_n_steps": 1}
    run = Run(tmp_path / "run")
    run.train(recipes)
    outcomes = {recipe.name: run.finished(recipe.name)["outcome"] for recipe in recipes}
    assert all(outcome["steps"] == 2 for outcome in outcomes.values())
    losses = {name: outcome["loss_after"] for name, outcome in outcomes.items()}
    # Processors round differently; a changed formula, draw or first weight moves a loss by far more.
    assert losses == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8")), rel=2e-3, abs=2e-4)
