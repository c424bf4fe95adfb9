"""When is a stage finished, and with what? `finished.json` holds the fingerprint of what made it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody_cm.configuration import leaves
from melody_cm.runs.recipe import Recipe, build_data
from melody_cm.storage import check_export, hash_file, read_keys, stage_folder, weight_hash, write_json

# Where and how fast a stage runs, and how it is watched, does not change what it is.
RUNTIME_KEYS = (
    *("accelerator", "devices", "num_nodes", "strategy", "precision", "plugins", "profiler", "max_time", "callbacks"),
    *("log_every_n_steps", "logger", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"),
)
MAPPINGS = ("config", "inputs", "outcome")  # Of a state file; one that was begun has no outcome yet.
STEPS = (("config", "trainer", "max_steps"), ("config", "trainer", "limit_train_batches"))


@dataclass
class Fingerprint:
    """What a stage was or would be made from: its configuration, its data, the weights of the stages it reads, and
    those that its own networks start from, if they are not random."""

    config: dict[str, Any]
    data: str
    inputs: dict[str, str]
    start: dict[str, str] = field(default_factory=dict)

    def changes(self, other: dict[str, Any]) -> dict[tuple[str, ...], tuple[Any, Any]]:
        """Theirs and ours by key, for all that is not the same in `other`, read from a state file."""
        ours, theirs = dict(leaves(vars(self))), dict(leaves({name: other.get(name) for name in vars(self)}))
        return {
            keys: (theirs.get(keys), ours.get(keys))
            for keys in {**theirs, **ours}
            if theirs.get(keys) != ours.get(keys)
        }

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Lines "key: theirs -> ours", empty if `other` is the same."""
        return [f"{'.'.join(keys)}: {old} -> {new}" for keys, (old, new) in self.changes(other).items()]

    def only_wants_more_steps(self, other: dict[str, Any]) -> bool:
        """Whether this is `other` with more steps: then the training of the one goes on as that of the other."""
        changes = self.changes(other)
        numbers = all(isinstance(value, int) for pair in changes.values() for value in pair)
        return bool(changes) and changes.keys() <= set(STEPS) and numbers and all(a < b for a, b in changes.values())


def fingerprint(recipe: Recipe) -> Fingerprint:
    """The fingerprint of a composed recipe."""
    data = build_data(recipe.config["data"]).fingerprint()
    return Fingerprint(lasting(recipe.config), data, {stage: stage_weights(stage) for stage in recipe.needs})


def lasting(config: dict[str, Any]) -> dict[str, Any]:
    """A recipe's configuration without what does not change the result; the corpus counts by its content."""
    trainer = {key: value for key, value in config["trainer"].items() if key not in RUNTIME_KEYS}
    plain = {key: value for key, value in config["data"].items() if key not in ("corpus", "num_workers")}
    return {**{key: value for key, value in config.items() if key != "compile"}, "trainer": trainer, "data": plain}


def stage_weights(stage: str) -> str:
    """The weight hashes of all networks that a finished stage exports, as one line."""
    exports = sorted(path.parent for path in (stage_folder(stage) / "export").glob("*/config.json"))
    if not exports:
        raise FileNotFoundError(f"{stage_folder(stage)} has no export any more; `melody-cm finish` writes it again")
    return " ".join(f"{folder.name}:{weight_hash(folder)}" for folder in exports)


def check_inputs(stage: str) -> None:
    """Refuse with a ValueError a stage that was trained on an earlier version of what it reads."""
    for needed, weights in (read_finished(stage_folder(stage)) or {})["inputs"].items():
        if stage_weights(needed) != weights:
            raise ValueError(f"{stage} was trained on an earlier {needed}; train {stage} again with --retrain")
        check_inputs(needed)


def read_state(path: Path) -> dict[str, Any] | None:
    """What finished.json or begun.json says; None where it is not there. A ValueError if it is damaged, or if one of
    `MAPPINGS` in it is not keys and values."""
    try:
        state = {**{name: {} for name in MAPPINGS}, **read_keys(path)}
        if strange := [name for name in MAPPINGS if not isinstance(state[name], dict)]:
            raise ValueError(f"{strange[0]} holds no keys and values")
        return state
    except FileNotFoundError:
        return None
    except ValueError as error:
        reason = error.__cause__ or error
        raise ValueError(
            f"{path} is damaged ({reason}); train this stage with --retrain, which keeps it aside"
        ) from error


def read_finished(folder: Path) -> dict[str, Any] | None:
    """What finished.json says, or None if the stage is not finished; a ValueError if it is damaged."""
    return read_state(folder / "finished.json")


def write_finished(folder: Path, made_from: Fingerprint, outcome: dict[str, Any]) -> None:
    """Declare a stage finished; the last file that is written."""
    written = {"exports": _descriptions(folder / "export"), "best": _descriptions(folder / "best")}
    write_json(folder / "finished.json", {**vars(made_from), **written, "outcome": outcome})


def _descriptions(folder: Path) -> dict[str, str]:
    """The hash of what describes each network of a folder, its weights' hash among it."""
    return {path.parent.name: hash_file(path) for path in sorted(folder.glob("*/config.json"))}


def check_finished(folder: Path) -> None:
    """Refuse a finished stage whose export is gone or damaged with a ValueError that says how to have it again."""
    done = read_finished(folder) or {}
    fix = f"`melody-cm finish {folder}` writes it again from last.ckpt, --retrain trains the stage anew"
    known = [done["exports"], done.get("best")] if "exports" in done else []  # The first versions said neither.
    found = _descriptions(folder / "export")  # The best may have been put in its place.
    if not found or (known and found not in known):
        raise ValueError(f"{folder / 'export'} is not what was written when the stage was finished; {fix}")
    for name in found:
        try:
            check_export(folder / "export" / name)
        except (ValueError, OSError) as error:
            raise ValueError(f"{str(error).removesuffix('; export it again')}; {fix}") from error
