"""Each ablation differs from the recipe it is based on in exactly what its `set` says, at every size."""

from pathlib import Path

import pytest

from melody_cm.configuration import leaves, read_yaml, shipped
from melody_cm.runs import Setting, plan
from melody_cm.runs.memory import stage_on_meta
from melody_cm.runs.plan import learning_parameters

ABLATIONS = sorted(shipped("recipes/ablations").rglob("*.yaml"))
SIZES = ("tiny", "cpu", "small", "paper")
LINKED = {"model.objective.grid_steps": "model.schedule.grid_steps"}  # The student is sampled on the grid it learns.
SAME_AT_TINY = "guidance_2"  # Which is what tiny distils anyway.
BASE = "melody/6_dual_path_diffusion"


def set_keys(path: Path, size: str) -> set[str]:
    """What a recipe says that it changes."""
    content = read_yaml(path)
    keys = set(content.get("set", {})) | set(content.get("sizes", {}).get(size, {}).get("set", {}))
    return keys | {LINKED[key] for key in keys if key in LINKED}


def short(keys: tuple[str, ...]) -> str:
    return ".".join(key for key in keys if key != "init_args")


def differing(path: Path, size: str) -> set[str]:
    base = Setting(size).compose(read_yaml(path)["base"])
    ours, theirs = (dict(leaves(recipe.config)) for recipe in (Setting(size).compose(path), base))
    return {short(keys) for keys in {*ours, *theirs} if ours.get(keys, "none") != theirs.get(keys, "none")}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_ablation_differs_from_its_base_in_exactly_its_set_keys(path, size):
    wanted, found = set_keys(path, size), differing(path, size)
    inside = {key: [each for each in found if each == key or each.startswith(f"{key}.")] for key in wanted}
    assert {each for several in inside.values() for each in several} == found
    unchanged = path.stem in ("linear", *([SAME_AT_TINY] if size == "tiny" else []))
    assert all(inside.values()) or unchanged, "each key that is set makes a difference"


def test_every_ablation_is_a_few_lines():
    assert {path.parent.name for path in ABLATIONS} == {"angle_schedule", "distillation", "network"}
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in ABLATIONS) <= 25


@pytest.mark.parametrize(
    "size", ["tiny", "paper", *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:3])]
)
def test_networks_with_their_conditioner_have_as_many_parameters_as_the_dual_path_denoiser(size):
    setting = Setting(size)
    names = (BASE, "ablations/network/unet1d", "ablations/network/unet2d")
    expected, *counts = (learning_parameters(stage_on_meta(setting.compose(name), setting)) for name in names)
    assert counts == [pytest.approx(expected, rel=0.05)] * 2


def test_the_folder_is_planned_after_the_stages_that_it_reads():
    names = [recipe.name for recipe in plan("recipes/ablations/network", Setting("tiny"))]
    assert names[-3:] == [f"ablations/network/{name}" for name in ("dual_path", "unet1d", "unet2d")]
    assert {"melody/2_semantic_tokenizer", "melody/5_audio_vae_gan"} <= set(names[:-3])


@pytest.mark.parametrize(("size", "angles", "scale"), [("tiny", 10, 2.0), ("cpu", 25, 3.0), ("paper", 50, 3.0)])
def test_the_grid_that_is_sampled_is_the_one_that_is_learned(size, angles, scale):
    slots = Setting(size).compose("musiccm/4_consistency_distillation").config["model"]["init_args"]
    assert slots["objective"]["init_args"]["grid_steps"] == slots["schedule"]["init_args"]["grid_steps"] == angles
    assert slots["objective"]["init_args"]["guidance_scale"] == scale  # The paper's w = 2.0 is 3.0.


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", ["melody/5_audio_vae_gan", BASE, "ablations/network/unet1d"])
def test_reconstruction_and_denoising_are_judged_while_they_are_learned_and_not_only_at_the_end(name, size):
    trainer = Setting(size).compose(name).config["trainer"]
    callbacks = {callback["class_path"].rpartition(".")[2]: callback["init_args"] for callback in trainer["callbacks"]}
    assert 2 * callbacks["SISNRCallback"]["every_n_steps"] <= trainer["max_steps"]
