"""When is a stage finished, and with what? `finished.json` holds the fingerprint of what made it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melody_cm.configuration import leaves
from melody_cm.runs.recipe import Recipe
from melody_cm.storage import read_json, stage_folder, weight_hash, write_json

# Where and how fast a stage runs, and how it is watched, does not change what it is.
RUNTIME_KEYS = (
    *("accelerator", "devices", "num_nodes", "strategy", "precision", "plugins", "profiler", "max_time", "callbacks"),
    *("log_every_n_steps", "logger", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"),
)


@dataclass
class Fingerprint:
    """What a stage was or would be made from: its configuration, its data, and the weights of the stages it reads."""

    config: dict[str, Any]
    data: str
    inputs: dict[str, str]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Lines "key: theirs -> ours", empty if `other`, read from a finished.json, is the same."""
        ours, theirs = dict(leaves(vars(self))), dict(leaves({name: other.get(name) for name in vars(self)}))
        changed = [keys for keys in {**theirs, **ours} if theirs.get(keys) != ours.get(keys)]
        return [f"{'.'.join(keys)}: {theirs.get(keys)} -> {ours.get(keys)}" for keys in changed]


def fingerprint(recipe: Recipe, data: str) -> Fingerprint:
    """The fingerprint of a composed recipe on data whose own fingerprint is given."""
    trainer = {key: value for key, value in recipe.config["trainer"].items() if key not in RUNTIME_KEYS}
    plain = {key: value for key, value in recipe.config["data"].items() if key not in ("corpus", "num_workers")}
    config = {**recipe.config, "trainer": trainer, "data": plain}
    return Fingerprint(config, data, {stage: stage_weights(stage) for stage in recipe.needs})


def stage_weights(stage: str) -> str:
    """The weight hashes of all networks that a finished stage exports, as one line."""
    exports = sorted((stage_folder(stage) / "export").iterdir())
    return " ".join(f"{folder.name}:{weight_hash(folder)}" for folder in exports)


def check_inputs(stage: str) -> None:
    """Refuse a stage that was trained on an earlier version of what it reads.

    Raises:
        ValueError: it was.
    """
    for needed, weights in read_json(stage_folder(stage) / "finished.json")["inputs"].items():
        if stage_weights(needed) != weights:
            raise ValueError(f"{stage} was trained on an earlier {needed}; train {stage} again with --retrain")
        check_inputs(needed)


def read_finished(folder: Path) -> dict[str, Any] | None:
    """What finished.json says, or None if the stage is not finished."""
    path = folder / "finished.json"
    return read_json(path) if path.is_file() else None


def write_finished(folder: Path, made_from: Fingerprint, outcome: dict[str, Any]) -> None:
    """Declare a stage finished; the last file that is written."""
    write_json(folder / "finished.json", {**vars(made_from), "outcome": outcome})
