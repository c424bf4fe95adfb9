"""How a recipe is composed, and what it refuses."""

from pathlib import Path

import pytest
import yaml

from melody_cm.configuration import parse_overrides
from melody_cm.runs import Setting, copy_recipe, list_recipes, plan
from melody_cm.runs.recipe import RECIPE_KEYS, in_words

STAGE = {
    "class_path": "melody_cm.training.ConsistencyDistillation",
    "init_args": {
        "autoencoder": "stage:toy/0_autoencoder",
        "conditioner": "stage:toy/0_teacher",
        "teacher": "stage:toy/0_teacher",
        "objective": {
            "class_path": "melody_cm.diffusion.ConsistencyObjective",
            "init_args": {"schedule": "parts/linear.yaml", "grid_steps": 50, "guidance_scale": 3.0},
        },
        "schedule": "parts/grid.yaml",
        "sampler": {"class_path": "melody_cm.diffusion.ConsistencySampler"},
        "optimization": {"learning_rate": 0.1},
        "num_steps": 4,
    },
}
RECIPE = {
    "seed_everything": 0,
    "model": STAGE,
    "data": {
        "corpus": {"class_path": "melody_cm.data.SyntheticCorpus", "init_args": {"num_clips": 40, "seconds": 1.0}},
        "sample_rate": 16000,
        "seconds": 1.0,
        "batch_size": 4,
    },
    "trainer": {"max_steps": 1000},
    "sizes": {
        "tiny": {
            "cost": {"seconds_per_step": 0.5},
            "trainer": {"max_steps": 3},
            "model": {"init_args": {"objective": {"init_args": {"grid_steps": 10, "guidance_scale": 2.0}}}},
        }
    },
}


@pytest.fixture
def house(tmp_path):
    """A recipe with a preset inside a preset, a link and a size; a function that writes further files beside it."""

    def write(name: str, content) -> Path:
        path = tmp_path / "recipes/toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
        return path

    write("parts/linear.yaml", {"class_path": "melody_cm.diffusion.LinearAngles"})
    link = "${model.objective.grid_steps}"
    grid = {
        "class_path": "melody_cm.diffusion.GridAngles",
        "init_args": {"schedule": "linear.yaml", "grid_steps": link},
    }
    write("parts/grid.yaml", grid)
    write("1_stage.yaml", RECIPE)
    write.folder = tmp_path / "recipes/toy"
    return write


def composed(house, name="1_stage.yaml", size="tiny", **setting):
    return Setting(size, **setting).compose(house.folder / name)


def arguments(recipe):
    return recipe.config["model"]["init_args"]


def test_presets_are_put_in_sizes_merge_key_by_key_and_links_are_filled(house):
    recipe = composed(house)
    assert recipe.name == "toy/1_stage"
    assert recipe.needs == ["toy/0_autoencoder", "toy/0_teacher"]
    assert recipe.cost == {"seconds_per_step": 0.5}
    assert recipe.config["trainer"] == {"max_steps": 3, "accelerator": "cpu", "devices": 1, "precision": "32-true"}
    linear = {"class_path": "melody_cm.diffusion.LinearAngles"}
    assert arguments(recipe)["schedule"]["init_args"] == {"schedule": linear, "grid_steps": 10}
    assert composed(house, size="paper").config["trainer"]["max_steps"] == 1000
    assert arguments(composed(house, size="paper"))["schedule"]["init_args"]["grid_steps"] == 50


@pytest.mark.parametrize("size", ["tiny", "paper"])
def test_what_is_set_on_another_recipe_holds_at_every_size(house, size):
    house("guidance.yaml", {"base": "toy/1_stage", "set": {"model.objective.guidance_scale": 7.0}})
    ours, base = arguments(composed(house, "guidance.yaml", size)), arguments(composed(house, size=size))
    assert ours["objective"]["init_args"].pop("guidance_scale") == 7.0
    assert base["objective"]["init_args"].pop("guidance_scale") != 7.0
    assert ours == base


def test_a_derived_recipe_has_sizes_of_its_own_and_the_command_line_has_the_last_word(house):
    sizes = {"tiny": {"set": {"model.objective.grid_steps": 5}}}
    derived = {"base": "1_stage.yaml", "set": {"model.objective.grid_steps": 20}, "sizes": sizes}
    house("grids.yaml", derived)
    steps = [
        arguments(composed(house, "grids.yaml", **setting))["schedule"]["init_args"]["grid_steps"]
        for setting in ({"size": "tiny"}, {"size": "paper"}, {"overrides": ["--model.objective.grid_steps=2"]})
    ]
    assert steps == [5, 20, 2]


def test_a_recipe_that_ships_can_be_the_base_of_one_anywhere(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: musiccm/4_consistency_distillation\nset: {model.objective.guidance_scale: 7.0}\n")
    for size in ("tiny", "cpu", "small", "paper"):
        assert arguments(Setting(size).compose(path))["objective"]["init_args"]["guidance_scale"] == 7.0


def test_a_copy_of_a_recipe_that_ships_works_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = copy_recipe("melody/6_dual_path_diffusion", tmp_path / "mine/6_mine.yaml")
    for size in ("tiny", "paper"):
        ours, theirs = Setting(size).compose(copy), Setting(size).compose("melody/6_dual_path_diffusion")
        assert (ours.config, ours.needs, ours.name) == (theirs.config, theirs.needs, "mine/6_mine")
    with pytest.raises(FileExistsError, match="is there already"):
        copy_recipe("melody/6_dual_path_diffusion", copy)


def test_what_is_printed_runs_by_itself(house, tmp_path):
    recipe = composed(house)
    (tmp_path / "printed.yaml").write_text(recipe.as_yaml())
    assert Setting("paper").compose(tmp_path / "printed.yaml").config == recipe.config


def test_the_list_of_recipes_says_purpose_needs_and_cost():
    listed = {recipe.name: recipe for recipe in list_recipes("tiny")}
    lm = listed["melody/4_semantic_lm"]
    assert lm.purpose.startswith("Semantic language model")
    assert lm.needs == ["melody/2_semantic_tokenizer", "melody/3_joint_tokenizer"]
    assert lm.minutes == pytest.approx(200 * 0.12 / 60)
    assert lm.cost == "24 s on one core"
    assert "ablations/network/unet1d" in listed


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (0.0, "0 s"),
        (0.002, "1 s"),
        (0.4, "24 s"),
        (1.0, "1.0 min"),
        (4.31, "4.3 min"),
        (60.0, "1.0 h"),
        (430.0, "7.2 h"),
    ],
)
def test_times_are_said_in_a_unit_that_tells_them_apart(minutes, said):
    assert in_words(minutes) == said


def test_overrides_reach_inside_init_args_and_swap_presets(house):
    recipe = composed(house, overrides=["--model.num_steps", "7", "--trainer.max_steps=9", "--seed_everything", "7"])
    assert arguments(recipe)["num_steps"] == 7
    assert recipe.planned_steps == 9
    assert recipe.config["seed_everything"] == 7
    grid = str(house.folder / "parts/grid.yaml")
    swapped = composed(house, overrides=["--model.objective.schedule", grid])
    assert arguments(swapped)["objective"]["init_args"]["schedule"]["class_path"].endswith("GridAngles")
    other = ["--model.schedule.schedule.class_path", "melody_cm.diffusion.UniformAngles"]
    assert arguments(composed(house, overrides=other))["schedule"]["init_args"]["schedule"]["class_path"].endswith(
        "UniformAngles"
    )


def test_another_class_in_an_overlay_replaces_the_slot(house):
    uniform = {"class_path": "melody_cm.diffusion.UniformAngles"}
    house("uniform.yaml", {"base": "1_stage.yaml", "sizes": {"tiny": {"model": {"init_args": {"schedule": uniform}}}}})
    assert arguments(composed(house, "uniform.yaml"))["schedule"] == uniform, "no argument of the old class stays"


def changed(**parts):
    return {**RECIPE, **parts}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "parts/grid.yaml",
            {"class_path": "melody_cm.diffusion.GridAngles", "init_args": {"schedule": "linear.yaml", "gird_steps": 5}},
            r"grid.yaml: model.init_args.schedule.init_args.gird_steps: .*'grid_steps'",
        ),
        ("parts/grid.yaml", {"class_path": "melody_cm.diffusion.GirdAngles"}, r"grid.yaml: .*no class .*GirdAngles"),
        ("parts/grid.yaml", {"class_path": None}, r"grid.yaml: .*class_path: there is no class None"),
        (
            "parts/grid.yaml",
            {"class_path": "melody_cm.diffusion.GridAngles"},
            r"schedule.init_args: GridAngles needs schedule",
        ),
        ("parts/grid.yaml", {"class_path": "melody_cm.diffusion.DDIMSampler"}, r"DDIMSampler is no AngleSchedule"),
        ("parts/grid.yaml", ["a", "list"], "must hold keys and values"),
        ("1_stage.yaml", changed(sizes={"tiny": {"trainer": {"max_stepz": 3}}}), r"trainer.max_stepz: .*'max_steps'"),
        ("1_stage.yaml", changed(sizes={"tinny": {}}), r"sizes.tinny: .*'tiny'"),
        ("1_stage.yaml", changed(modle={}), r"1_stage.yaml: modle: .*'model'"),
        ("1_stage.yaml", changed(data={"sampel_rate": 8000}), r"data.sampel_rate: .*'sample_rate'"),
        ("1_stage.yaml", changed(sizes={}), r"1_stage.yaml has no size tiny; add it below `sizes:`"),
        ("1_stage.yaml", {"base": "1_stage.yaml"}, "based on itself"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_fits(house, file, content, message):
    house(file, content)
    with pytest.raises(ValueError, match=message):
        composed(house)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--data.seconds=2.56s", r"command line: data.seconds: '2.56s' is no valid value: it should be a valid number"),
        ("--trainer.precision=bf17", r"trainer.precision: 'bf17' is no valid value: .*bf16"),
        ("--trainer.max_steps=abc", r"trainer.max_steps: 'abc'"),
        ("--model.optimization.learning_rat=1", r"optimization.learning_rat: unknown key; .*'learning_rate'"),
        ("--model.optimization.learning_rate=fast", r"learning_rate: 'fast' is no valid value"),
        ("--model.teacher=configs/autoencoder/waveform.yaml", r"WaveformAutoencoder is no Denoiser"),
        ("--model.teacher=abc", r"model.init_args.teacher: 'abc' is no valid value: .*Denoiser"),
        ("--model.num_steps=stage:toy/0_teacher", r"num_steps: .*names a stage, but this is no place for a network"),
        ("--model.schedule.grid_steps=${model.nothing}", r"\$\{model.nothing\} links to no value"),
        ("--trainer.default_root_dir=x", r"trainer.default_root_dir: set by melody-cm: .*--runs"),
        ("--trainer.enable_checkpointing=true", r"trainer.enable_checkpointing: set by melody-cm"),
    ],
)
def test_a_wrong_value_is_refused_before_any_work(house, override, message):
    with pytest.raises(ValueError, match=message):
        composed(house, overrides=[override])


def test_a_missing_preset_is_named(house):
    (house.folder / "parts/linear.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no preset .*linear.yaml"):
        composed(house)


def test_yaml_that_refers_to_itself_is_refused_at_once(house):
    (house.folder / "parts/grid.yaml").write_text(
        "class_path: melody_cm.diffusion.GridAngles\ninit_args: &x {schedule: *x}"
    )
    with pytest.raises(ValueError, match=r"grid.yaml is not valid YAML: aliases \(\*x\) are not read"):
        composed(house)


def test_code_in_a_machine_file_is_not_run(house, tmp_path):
    callback = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": "os.abort"}}
    (tmp_path / "machine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    with pytest.raises(ValueError, match=r"machine.yaml: trainer.callbacks.0.init_args.on_fit_start: 'os.abort'"):
        composed(house, machine=str(tmp_path / "machine.yaml"))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--retrian"], "unknown argument '--retrian'"), (["--a.b"], "--a.b needs a value"), (["stray"], "'stray'")],
)
def test_a_mistyped_option_is_no_override(words, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(words, RECIPE_KEYS)


def test_an_unknown_size_lists_the_sizes():
    with pytest.raises(ValueError, match="tiny, cpu, small, paper"):
        Setting("huge")


def test_a_folder_is_planned_after_what_its_recipes_need(house, monkeypatch):
    for name in ("0_autoencoder", "0_teacher"):
        fitting = {"class_path": "melody_cm.training.TokenizerFitting", "init_args": {"tokenizer": tokenizer()}}
        house(f"{name}.yaml", changed(model=fitting, sizes={"tiny": {}}))
    order = ["toy/0_autoencoder", "toy/0_teacher", "toy/1_stage"]
    assert [recipe.name for recipe in plan(house.folder, Setting("tiny")) if recipe.name in order] == order
    monkeypatch.chdir(house.folder)
    assert [recipe.name for recipe in plan(Path("."), Setting("tiny")) if recipe.name in order] == order


def tokenizer():
    sizes = {"sample_rate": 16000, "frame_rate": 25.0, "codebook_size": 4, "num_mels": 8}
    return {"class_path": "melody_cm.encoders.LogMelKMeans", "init_args": sizes}
