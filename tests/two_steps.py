"""Two steps of every stage at size tiny: the run that tests share, and whose losses are pinned."""

from pathlib import Path

from melody_cm.configuration import shipped
from melody_cm.runs import Recipe, Run, Setting, plan_stages

GOLDEN = Path(__file__).parent / "golden/tiny_losses.json"
RECIPES = sorted(path for path in shipped("recipes").rglob("*.yaml") if path.parent.name != "compare")
STAGES = [
    path.relative_to(shipped("recipes")).with_suffix("").as_posix() for path in RECIPES if "ablations" not in path.parts
]
NEW_CLASSES = ["ablations/network/unet1d", "ablations/network/unet2d"]  # Which no stage trains.


def train_two_steps(folder: Path) -> Run:
    """Train every stage, and the networks of ablations that no stage has, for two steps on 48 clips."""
    recipes = plan_stages([*STAGES, *NEW_CLASSES], Setting("tiny"))
    run = Run(folder)
    run.train(shortened(recipes))
    return run


def shortened(recipes: list[Recipe]) -> list[Recipe]:
    """The same trainings, of two steps."""
    for recipe in recipes:
        recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
        key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
        if key == "max_steps":
            recipe.config["data"]["batch_size"] = 4
        recipe.config["trainer"] |= {key: 2, "val_check_interval": 2, "log_every_n_steps": 1}
        for callback in recipe.config["trainer"].get("callbacks") or []:  # Which took half of the time.
            if "num_clips" in callback["init_args"]:
                callback["init_args"]["num_clips"] = 1
    return recipes


def losses(run: Run) -> dict[str, float]:
    """The loss of each stage after its two steps."""
    return {name: run.finished(name)["outcome"]["loss_after"] for name in [*STAGES, *NEW_CLASSES]}
