"""Each ablation of the distillation differs from MusicCM's own recipe in the one factor that its name says."""

from pathlib import Path

import pytest

from melody_cm.cli.recipe import compose, leaves

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
# name -> what its keys end with. The grid is both learned and sampled from, so it stands in two slots.
FACTORS = {
    "base": "",
    "no_discriminator": "adversary",
    "guidance_1": "guidance_scale",
    "guidance_2": "guidance_scale",
    "guidance_5": "guidance_scale",
    "grid_coarse": "grid_steps",
    "grid_fine": "grid_steps",
}
SAME_AT_TINY = "guidance_2"  # Which is what tiny distils anyway.


def differing(name: str, size: str) -> set[tuple[str, ...]]:
    ours, theirs = (
        dict(leaves(compose(RECIPES / f"{path}.yaml", size).config))
        for path in (f"ablations/distillation/{name}", "musiccm/4_consistency_distillation")
    )
    return {keys for keys in ours.keys() | theirs.keys() if ours.get(keys, "none") != theirs.get(keys, "none")}


def test_every_recipe_of_the_folder_is_compared():
    assert {path.stem for path in (RECIPES / "ablations/distillation").glob("*.yaml")} == set(FACTORS)


@pytest.mark.parametrize("size", ["tiny", "cpu", "small", "paper"])
@pytest.mark.parametrize("name", FACTORS)
def test_a_recipe_differs_in_one_factor(name, size):
    keys = differing(name, size)
    if name == "base" or (name, size) == (SAME_AT_TINY, "tiny"):
        assert not keys
    elif name == "no_discriminator":
        assert {key[:3] for key in keys} == {("model", "init_args", "adversary")}
    else:
        slots = ["objective", "schedule"] if name.startswith("grid") else ["objective"]
        assert keys == {("model", "init_args", slot, "init_args", FACTORS[name]) for slot in slots}


@pytest.mark.parametrize(("size", "angles", "scale"), [("tiny", 10, 2.0), ("cpu", 25, 3.0), ("paper", 50, 3.0)])
def test_the_grid_that_is_sampled_is_the_one_that_is_learned(size, angles, scale):
    slots = compose(RECIPES / "musiccm/4_consistency_distillation.yaml", size).config["model"]["init_args"]
    assert slots["objective"]["init_args"]["grid_steps"] == slots["schedule"]["init_args"]["grid_steps"] == angles
    assert slots["objective"]["init_args"]["guidance_scale"] == scale  # The paper's w = 2.0 is 3.0.
