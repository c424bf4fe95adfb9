"""Systems: which finished stages of a run make one, by the presets of configs/pipeline."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from melody_cm.configuration import leaves, load_config, shipped
from melody_cm.interfaces import Pipeline
from melody_cm.runs.fingerprint import check_inputs, read_finished
from melody_cm.storage import build, find_class, stage_folder
from melody_cm.storage.description import STAGE, parameters

FACTS = ("size", "steps", "validation_loss", "music", "started_from", "started_after")
SAMPLING = ("schedule", "sampler", "num_steps", "guidance_scale")


def preset_of(system: str | Path) -> Path:
    """The preset of a system: a file, or the name of one that ships; a ValueError if there is none."""
    if Path(system).suffix == ".yaml":
        return Path(system)
    preset = shipped("configs/pipeline") / f"{system}.yaml"
    if not preset.is_file():
        known = ", ".join(sorted(path.stem for path in preset.parent.glob("*.yaml")))
        raise ValueError(f"there is no system {str(system)!r}; systems: {known}")
    return preset


def stages_of(preset: Path) -> list[str]:
    """The stages that a system is built from."""
    values = dict.fromkeys(str(value) for _, value in leaves(load_config(preset)))
    return [value.removeprefix(STAGE) for value in values if value.startswith(STAGE)]


def open_system(preset: Path) -> Pipeline:
    """A system built from the finished stages of the current run. Schedule, sampler, steps and guidance come with the
    stage that was trained for them, and so does the length.

    A FileNotFoundError if a stage is not finished, a ValueError if it reads one that was trained again since.
    """
    config = load_config(preset)
    for stage in stages_of(preset):
        check_inputs(stage)
    arguments = config["init_args"]
    generator = arguments.get("denoiser") or arguments["semantic_lm"]
    trained = (read_finished(stage_folder(generator.removeprefix(STAGE))) or {})["config"]
    defaults = sampling_settings(trained, parameters(find_class(config["class_path"])))
    _take_folders(arguments, _folders(trained["model"]["init_args"]))
    system = build({**config, "init_args": {**defaults, **arguments}})
    system.history = history(stages_of(preset))
    return system


def history(stages: Iterable[str]) -> dict[str, Any]:
    """How each finished stage of the current run was trained, for a model card; a stage that was taken from an exported
    system says from which, and after how many steps."""
    told = {}
    for stage in stages:
        done = read_finished(stage_folder(stage)) or {}
        facts = done["adopted"]["history"] if "adopted" in done else done.get("outcome") or {}
        told[stage] = {name: facts[name] for name in FACTS if facts.get(name) is not None}
        if Path(source := told[stage].get("started_from", "")).is_absolute():
            told[stage]["started_from"] = Path(source).name  # The card travels, and the rest is of this machine alone.
    return told


def sampling_settings(trained: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """How a stage was to be sampled, as far as a system has such arguments."""
    arguments = trained["model"]["init_args"]
    settings = {name: arguments[name] for name in SAMPLING if name in arguments}
    objective = (arguments.get("objective") or {}).get("init_args") or {}
    if "guidance_scale" in objective:
        settings["embedded_guidance_scale"] = objective["guidance_scale"]
    settings["max_seconds"] = trained["data"]["seconds"]
    return {name: value for name, value in settings.items() if name in known}


def _folders(slots: Any) -> dict[str, str]:
    """The public folder that each class of a configuration reads, by class path."""
    values = dict(leaves(slots))
    at_folders = [at for at in values if at[-2:] == ("init_args", "folder")]
    return {values[(*at[:-2], "class_path")]: values[at] for at in at_folders}


def _take_folders(slots: dict[str, Any], trained: dict[str, str]) -> None:
    """Let a system read the public folders that its generator was trained with."""
    for slot in slots.values():
        if isinstance(slot, dict) and "folder" in (arguments := slot.get("init_args") or {}):
            if slot["class_path"] not in trained:
                raise ValueError(
                    f"this run was not trained with {slot['class_path']}; export the system musiccm instead"
                )
            arguments["folder"] = trained[slot["class_path"]]
