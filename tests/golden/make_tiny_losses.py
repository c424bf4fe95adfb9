"""Makes tiny_losses.json: the loss of each stage after two steps at size tiny. Run it only where a change is meant."""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from test_recipes import GOLDEN, NEW_CLASSES, STAGES  # noqa: E402

from melody_cm.runs import Run, Setting, plan_stages  # noqa: E402


def main() -> None:
    """Train two steps of everything and write the losses."""
    recipes = plan_stages([*STAGES, *NEW_CLASSES], Setting("tiny"))
    for recipe in recipes:
        recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
        key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
        recipe.config["trainer"] |= {key: 2, "val_check_interval": 2, "log_every_n_steps": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        run.train(recipes)
        losses = {recipe.name: run.finished(recipe.name)["outcome"]["loss_after"] for recipe in recipes}
    GOLDEN.write_text(json.dumps(losses, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
