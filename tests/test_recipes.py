"""Every recipe parses at every size, is within its size's limits, and runs two steps at size tiny, in one process."""

from pathlib import Path

import pytest
import yaml

from melody_cm.cli.compare import plan_systems, read_compare_recipe
from melody_cm.cli.finished import read_finished
from melody_cm.cli.plan import Setting, count_parameters, plan, plan_stages
from melody_cm.cli.recipe import compose
from melody_cm.cli.run import train_all

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = sorted(path for path in (REPOSITORY / "recipes").rglob("*.yaml") if path.parent.name != "compare")
SIZES = ("tiny", "cpu", "small", "paper")


def identify(path: Path) -> str:
    return path.relative_to(REPOSITORY / "recipes").with_suffix("").as_posix()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_a_recipe_composes_and_its_networks_can_be_built(path, size):
    recipe = compose(path, size)
    limit = {"tiny": 2e6, "cpu": 4e6, "small": 30e6, "paper": 5e8}[size]
    assert 0 <= count_parameters(recipe, Setting(size)) < limit
    for needed in recipe.needs:
        assert (REPOSITORY / "recipes" / f"{needed}.yaml").is_file()
    assert set(recipe.stages_read) <= set(recipe.needs) | {recipe.name}, "needs must name every stage that is read"


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_a_recipe_says_what_it_is(path):
    header = path.read_text(encoding="utf-8").split("seed_everything")[0]
    for word in ("Paper:", "Needs:", "Produces:", "Command:"):
        assert word in header, f"{identify(path)}: the header does not say {word}"


def test_every_overlay_belongs_to_a_recipe_and_every_preset_is_used():
    names = {identify(path) for path in RECIPES}
    for size in (REPOSITORY / "configs/sizes").iterdir():
        assert {overlay.relative_to(size).with_suffix("").as_posix() for overlay in size.rglob("*.yaml")} <= names
    for preset in (REPOSITORY / "configs").glob("*/*.yaml"):
        assert isinstance(yaml.safe_load(preset.read_text(encoding="utf-8")), dict)


def test_a_folder_is_planned_in_order_after_what_it_needs():
    names = [recipe.name for recipe in plan(REPOSITORY / "recipes/musiccm", Setting("tiny"))]
    first = ["musiccm/1_mel_vae", "musiccm/2_vocoder", "shared/1_joint_embedding"]
    assert names == [*first, "musiccm/3_teacher", "musiccm/4_consistency_distillation"]


def test_every_recipe_runs_two_steps_at_tiny_size(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELODY_CM_RUN", raising=False)
    recipes = plan_stages(REPOSITORY / "recipes", [identify(path) for path in RECIPES], Setting("tiny"))
    for recipe in recipes:
        recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
        key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
        recipe.config["trainer"] |= {key: 2, "val_check_interval": 2, "log_every_n_steps": 1}
    assert train_all(recipes, tmp_path / "run") == 0
    for recipe in recipes:
        done = read_finished(tmp_path / "run" / recipe.name)
        assert done["outcome"]["steps"] == 2
        assert done["outcome"]["loss_after"] is not None


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes/compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_comparison_plans_the_stages_of_all_its_systems(path):
    recipe = read_compare_recipe(path)
    assert recipe["size"] == path.stem
    names = [stage.name for stage in plan_systems(recipe, Setting(recipe["size"]))]
    assert {"shared/1_joint_embedding", "melody/6_dual_path_diffusion", "musiccm/4_consistency_distillation"} <= set(
        names
    )
    assert len(names) == len(set(names))
