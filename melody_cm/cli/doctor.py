"""`melody-cm doctor`: versions, devices, which optional parts are usable, and where caches are."""

import argparse
import importlib
import os
import shutil
from pathlib import Path

EXTRAS = {"encodec": "encodec", "fad": "frechet_audio_distance"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("doctor", help="show versions, devices, optional parts, caches", description=__doc__)
    parser.set_defaults(handler=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Print what a bug report should hold."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for section in (_versions(), _devices(), _extras(), _programs(), _caches()):
        for name, value in section.items():
            table.add_row(name, value)
        table.add_row("", "")
    Console(soft_wrap=True).print(table)
    return 0


def usable(module: str) -> str:
    """ "usable", or why importing the module fails: broken binary parts raise more than ImportError."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not installed ({error})"
    except (ImportError, OSError, RuntimeError) as error:
        return f"installed but not usable: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return "usable"


def _versions() -> dict[str, str]:
    from melody_cm.benchmark.machine import versions

    return {name: found or "not installed" for name, found in versions().items()}


def _devices() -> dict[str, str]:
    from melody_cm.benchmark.machine import describe_machine

    machine = describe_machine()
    return {
        "system": machine["system"],
        "CPU": f"{machine['cpu_cores']} cores, {machine['threads']} threads used by torch",
        "accelerators": ", ".join(machine["accelerators"]) or "none",
    }


def _extras() -> dict[str, str]:
    return {f"extra {extra}": usable(module) for extra, module in EXTRAS.items()}


def _programs() -> dict[str, str]:
    return {"fluidsynth (only to render MIDI)": shutil.which("fluidsynth") or "not found"}


def _caches() -> dict[str, str]:
    import torch
    from huggingface_hub import constants

    from melody_cm.data.synthetic import cache_folder

    music = {"procedural music (MELODY_CM_CACHE)": str(cache_folder())}
    places = {**music, "model hub cache": constants.HF_HUB_CACHE, "torch hub cache": torch.hub.get_dir()}
    described = {name: f"{path}{'' if Path(path).is_dir() else ' (empty)'}" for name, path in places.items()}
    return {**described, "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "not set")}
