"""`melody-cm export`: a system of a run as one folder that travels, without the run it was trained in."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.pipelines import PretrainedPipeline


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("export", help="write a trained system as one folder", description=__doc__)
    parser.add_argument("system", type=Path, help="RUNS/RUN/SYSTEM, e.g. runs/quickstart/melody")
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.set_defaults(handler=export)


def export(arguments: argparse.Namespace) -> int:
    """Write config.json, a model card and one safetensors folder per network; for diffusers, the scheduler too."""
    run, system = arguments.system.parent, arguments.system.name
    pipeline = pipeline_of_run(pipeline_preset(system), run)
    pipeline.save_pretrained(arguments.folder)
    print(f"{type(pipeline).__name__} written to {arguments.folder}; try: melody-cm generate {arguments.folder} ...")
    return 0


def pipeline_preset(system: str) -> Path:
    """The preset that says which stages make a system."""
    presets = sorted(Path("configs/pipeline").glob("*.yaml"))
    for preset in presets:
        if preset.stem == system:
            return preset
    known = ", ".join(preset.stem for preset in presets) or "none: run this in the project's root folder"
    raise ValueError(f"there is no system {system!r}; systems: {known}")


def pipeline_of_run(preset: Path, run: Path) -> "PretrainedPipeline":
    """A system built from the finished stages of a run.

    Schedule, sampler, steps and guidance travel with the stage that was trained for them, and so does the length.
    """
    from melody_cm.cli.recipe import load
    from melody_cm.cli.run import check_inputs
    from melody_cm.storage import build, enter_run, read_json, stage_folder

    enter_run(run)
    config = load(preset)
    for stage in stages_of(preset):
        check_inputs(stage)
    decisive = config["init_args"].get("denoiser") or config["init_args"]["semantic_lm"]
    generator = stage_folder(decisive["init_args"]["stage"])
    trained = read_json(generator / "finished.json")["config"]
    defaults = _sampling_settings(trained, config["class_path"])
    _take_folders(config["init_args"], _folders(trained["model"]["init_args"]))
    return build({**config, "init_args": {**defaults, **config["init_args"]}})


def stages_of(preset: Path) -> list[str]:
    """The stages that a system is built from."""
    from melody_cm.cli.recipe import leaves, load

    return [value for keys, value in leaves(load(preset)) if keys[-1] == "stage"]


def _folders(slots: Any) -> dict[str, str]:
    """The public folder that each class of a configuration reads, by class path."""
    if not isinstance(slots, dict):
        return {}
    arguments = slots.get("init_args") or {}
    found = {slots["class_path"]: arguments["folder"]} if "class_path" in slots and "folder" in arguments else {}
    for slot in slots.values():
        found |= _folders(slot)
    return found


def _take_folders(slots: dict[str, Any], trained: dict[str, str]) -> None:
    """Let a system read the public folders that its generator was trained with."""
    for slot in slots.values():
        if isinstance(slot, dict) and "folder" in (arguments := slot.get("init_args") or {}):
            if slot["class_path"] not in trained:
                raise ValueError(
                    f"this run was not trained with {slot['class_path']}; export the system musiccm instead"
                )
            arguments["folder"] = trained[slot["class_path"]]


def _sampling_settings(trained: dict[str, Any], class_path: str) -> dict[str, Any]:
    import inspect

    from melody_cm.storage import find_class

    known = inspect.signature(find_class(class_path)).parameters
    arguments = trained["model"]["init_args"]
    settings = {
        name: arguments[name] for name in ("schedule", "sampler", "num_steps", "guidance_scale") if name in arguments
    }
    objective = (arguments.get("objective") or {}).get("init_args") or {}
    if "guidance_scale" in objective:
        settings["embedded_guidance_scale"] = objective["guidance_scale"]
    return {name: value for name, value in settings.items() if name in known} | {
        "max_seconds": trained["data"]["seconds"]
    }
