"""The network ablation compares networks and nothing else: one key differs from the base, and sizes match."""

from pathlib import Path

import pytest

from melody_cm.cli.plan import Setting, count_parameters, plan
from melody_cm.cli.recipe import Recipe, compose, leaves

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
BASE = RECIPES / "melody/6_dual_path_diffusion.yaml"
SIZES = ("tiny", "cpu", "small", "paper")
CLASSES = {"dual_path": "DualPathDenoiser", "unet1d": "UNet1D", "unet2d": "LatentImageUNet"}
KEY = ("model", "init_args", "denoiser")


def variant(name: str, size: str) -> Recipe:
    return compose(RECIPES / f"ablations/network/{name}.yaml", size)


def test_the_folder_holds_these_networks():
    assert {path.stem for path in (RECIPES / "ablations/network").glob("*")} == set(CLASSES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLASSES)
def test_a_variant_differs_from_the_base_in_the_denoiser_alone(name, size):
    recipe, base = variant(name, size), compose(BASE, size)
    ours, theirs = dict(leaves(recipe.config)), dict(leaves(base.config))
    differing = {keys for keys in {*ours, *theirs} if ours.get(keys) != theirs.get(keys)}
    assert {keys[:3] for keys in differing} == (set() if name == "dual_path" else {KEY})
    assert recipe.needs == base.needs
    assert recipe.config["model"]["init_args"]["denoiser"]["class_path"].endswith(f".{CLASSES[name]}")


@pytest.mark.parametrize("size", SIZES)
def test_networks_with_their_conditioner_have_as_many_parameters_as_the_dual_path_denoiser(size):
    expected = count_parameters(compose(BASE, size), Setting(size))
    counts = {name: count_parameters(variant(name, size), Setting(size)) for name in CLASSES}
    assert counts == {name: pytest.approx(expected, rel=0.05) for name in CLASSES}


def test_the_folder_is_planned_after_the_stages_that_it_reads():
    names = [recipe.name for recipe in plan(RECIPES / "ablations/network", Setting("tiny"))]
    assert names[-3:] == [f"ablations/network/{name}" for name in CLASSES]
    assert {"melody/2_semantic_tokenizer", "melody/5_audio_vae_gan"} <= set(names[:-3])


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", ["melody/5_audio_vae_gan", "melody/6_dual_path_diffusion", "ablations/network/unet1d"])
def test_reconstruction_and_denoising_are_judged_while_they_are_learned_and_not_only_at_the_end(name, size):
    trainer = compose(RECIPES / f"{name}.yaml", size).config["trainer"]
    callbacks = {callback["class_path"].rpartition(".")[2]: callback["init_args"] for callback in trainer["callbacks"]}
    assert 2 * callbacks["SISNRCallback"]["every_n_steps"] <= trainer["max_steps"]
