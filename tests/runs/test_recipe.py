from pathlib import Path

import pytest
import yaml

from melody_cm.cli.plan import Setting, plan
from melody_cm.cli.recipe import compose, parse_overrides, recipes_root


@pytest.fixture
def house(tmp_path):
    """A recipe with a preset inside a preset, one size and one machine."""

    def write(name: str, content) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
        return path

    write("configs/machines/cpu.yaml", {"trainer": {"accelerator": "cpu"}})
    write("configs/schedule/linear.yaml", {"class_path": "melody_cm.diffusion.LinearAngles"})
    write(
        "configs/schedule/grid.yaml",
        {
            "class_path": "melody_cm.diffusion.GridAngles",
            "init_args": {"schedule": "linear.yaml", "grid_steps": 50},
        },
    )
    write(
        "configs/sizes/tiny/toy/1_stage.yaml",
        {
            "trainer": {"max_steps": 3},
            "model": {"init_args": {"schedule": {"init_args": {"grid_steps": 10}}}},
            "cost": {"seconds_per_step": 0.5},
        },
    )
    recipe = {
        "needs": ["shared/1_other"],
        "seed_everything": 0,
        "model": {
            "class_path": "melody_cm.training.LatentDiffusion",
            "init_args": {"schedule": "../../configs/schedule/grid.yaml", "num_steps": 20},
        },
        "data": {"sample_rate": 16000},
        "trainer": {"max_steps": 1000},
    }
    write("recipes/toy/1_stage.yaml", recipe)
    write.root = tmp_path
    return write


def composed(house, **kwargs):
    return compose(house.root / "recipes/toy/1_stage.yaml", **{"size": "tiny", **kwargs})


def schedule_of(recipe):
    return recipe.config["model"]["init_args"]["schedule"]


def test_presets_are_put_in_and_overlays_merge_key_by_key(house):
    recipe = composed(house)
    assert recipe.name == "toy/1_stage"
    assert recipe.needs == ["shared/1_other"]
    assert recipe.cost == {"seconds_per_step": 0.5}
    assert recipe.config["trainer"] == {"max_steps": 3, "accelerator": "cpu"}
    assert schedule_of(recipe)["init_args"] == {
        "schedule": {"class_path": "melody_cm.diffusion.LinearAngles"},
        "grid_steps": 10,
    }


def test_paper_size_is_the_recipe_itself(house):
    assert composed(house, size="paper").config["trainer"]["max_steps"] == 1000


def test_overrides_reach_inside_init_args_and_swap_presets(house):
    linear = str(house.root / "configs/schedule/linear.yaml")
    recipe = composed(house, overrides=["--model.num_steps", "7", "--trainer.max_steps=9"])
    assert recipe.config["model"]["init_args"]["num_steps"] == 7
    assert recipe.config["trainer"]["max_steps"] == 9
    recipe = composed(house, overrides=["--model.schedule", linear])
    assert schedule_of(recipe) == {"class_path": "melody_cm.diffusion.LinearAngles"}, (
        "no argument of the old class stays"
    )
    recipe = composed(house, overrides=["--model.schedule.schedule.class_path", "melody_cm.diffusion.UniformAngles"])
    assert schedule_of(recipe)["init_args"]["schedule"]["class_path"].endswith("UniformAngles")


def test_numbers_are_numbers_as_people_write_them(house):
    recipe = composed(house, overrides=["--model.num_steps", "1e-3", "--seed_everything", "7"])
    assert recipe.config["model"]["init_args"]["num_steps"] == 0.001
    assert recipe.config["seed_everything"] == 7


def test_another_class_in_an_overlay_replaces_the_slot(house):
    house(
        "configs/sizes/tiny/toy/1_stage.yaml",
        {"model": {"init_args": {"schedule": {"class_path": "melody_cm.diffusion.UniformAngles"}}}},
    )
    assert schedule_of(composed(house)) == {"class_path": "melody_cm.diffusion.UniformAngles"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "configs/schedule/grid.yaml",
            {"class_path": "melody_cm.diffusion.GridAngles", "init_args": {"schedule": "linear.yaml", "gird_steps": 5}},
            r"grid.yaml: model.init_args.schedule.init_args.gird_steps: .*'grid_steps'",
        ),
        (
            "configs/sizes/tiny/toy/1_stage.yaml",
            {"trainer": {"max_stepz": 3}},
            r"tiny/toy/1_stage.yaml: trainer.max_stepz: .*'max_steps'",
        ),
        ("configs/sizes/tiny/toy/1_stage.yaml", {"modle": {}}, r"tiny/toy/1_stage.yaml: modle: .*'model'"),
        ("configs/sizes/tiny/toy/1_stage.yaml", {"data": {"sampel_rate": 8000}}, r"data.sampel_rate: .*'sample_rate'"),
        (
            "configs/schedule/grid.yaml",
            {"class_path": "melody_cm.diffusion.GirdAngles"},
            r"grid.yaml: .*no class 'melody_cm.diffusion.GirdAngles'",
        ),
        ("configs/schedule/grid.yaml", ["a", "list"], "must hold keys and values"),
    ],
)
def test_a_typo_names_the_file_the_key_and_the_nearest_valid_key(house, file, content, message):
    house(file, content)
    with pytest.raises(ValueError, match=message):
        composed(house)


def test_a_missing_preset_is_named(house):
    (house.root / "configs/schedule/linear.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"grid.yaml: .*there is no preset linear.yaml"):
        composed(house)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--retrian"], "unknown argument '--retrian'"), (["--a.b"], "--a.b needs a value"), (["stray"], "'stray'")],
)
def test_a_mistyped_option_is_no_override(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(arguments)


def test_an_unknown_size_lists_the_sizes(house):
    with pytest.raises(ValueError, match="tiny, cpu, small, paper"):
        composed(house, size="huge")


def deep(house, overlay):
    """A recipe two folders down that is the house's own, and its overlay at size tiny."""
    recipe = yaml.safe_load((house.root / "recipes/toy/1_stage.yaml").read_text())
    recipe["model"]["init_args"]["schedule"] = "../../../configs/schedule/grid.yaml"
    house("configs/sizes/tiny/ablations/group/variant.yaml", overlay)
    return house("recipes/ablations/group/variant.yaml", {**recipe, "needs": ["toy/1_stage"]})


def test_a_recipe_further_down_is_named_by_its_whole_path(house):
    recipe = compose(deep(house, {"trainer": {"max_steps": 4}}), "tiny")
    assert recipe.name == "ablations/group/variant"
    assert recipe.config["trainer"]["max_steps"] == 4
    assert recipes_root(recipe.path) == recipes_root(recipe.path.parent) == house.root / "recipes"


def test_a_folder_further_down_is_planned_after_what_it_needs(house, monkeypatch):
    path = deep(house, {"trainer": {"max_steps": 4}})
    house("recipes/shared/1_other.yaml", {"seed_everything": 0})
    house("configs/sizes/tiny/shared/1_other.yaml", {"seed_everything": 1})
    names = ["shared/1_other", "toy/1_stage", "ablations/group/variant"]
    assert [recipe.name for recipe in plan(path.parent, Setting("tiny"))] == names
    monkeypatch.chdir(path.parent)
    assert [recipe.name for recipe in plan(Path("."), Setting("tiny"))] == names


def test_an_overlay_extends_another(house):
    extends = {"extends": "../../toy/1_stage.yaml", "trainer": {"log_every_n_steps": 2}}
    recipe = compose(deep(house, extends), "tiny")
    assert recipe.config["trainer"] == {"max_steps": 3, "log_every_n_steps": 2, "accelerator": "cpu"}
    assert schedule_of(recipe)["init_args"]["grid_steps"] == 10
    assert recipe.cost == {"seconds_per_step": 0.5}
    assert recipe.origins["trainer", "max_steps"].endswith("tiny/toy/1_stage.yaml")
    assert recipe.origins["trainer", "log_every_n_steps"].endswith("group/variant.yaml")


def test_a_class_in_an_extending_overlay_takes_no_argument_of_the_extended(house):
    other = {"class_path": "melody_cm.diffusion.UniformAngles"}
    model = {"model": {"init_args": {"schedule": other}}}
    assert schedule_of(compose(deep(house, {"extends": "../../toy/1_stage.yaml", **model}), "tiny")) == other


def test_a_missing_extended_overlay_is_named(house):
    with pytest.raises(FileNotFoundError, match=r"variant.yaml: extends: there is no overlay ../gone.yaml"):
        compose(deep(house, {"extends": "../gone.yaml"}), "tiny")


def test_a_recipe_beside_no_configs_is_refused(tmp_path):
    path = tmp_path / "lonely/recipe.yaml"
    path.parent.mkdir()
    path.write_text("seed_everything: 0")
    with pytest.raises(ValueError, match=r"recipe.yaml is no recipe; recipes lie in recipes/SYSTEM/ beside configs/"):
        compose(path, "tiny")
