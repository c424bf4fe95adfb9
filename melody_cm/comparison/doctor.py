"""What a bug report should hold: versions, devices, which optional parts are usable, and where caches are."""

import importlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import constants

from melody_cm.data.jobs import cache_folder
from melody_cm.evaluation.provenance import describe_machine

EXTRAS = {"encodec": "encodec", "fad": "frechet_audio_distance"}
# Of these it is enough to be there: some take seconds to import, and of musicnn only files are read.
PRESENT = {
    "judge musicnn": "musicnn",
    "extra demo": "gradio",
    "extra completion": "argcomplete",
    "extra browser": "playwright",
}


def doctor() -> list[dict[str, str]]:
    """Sections of facts about this installation, by name: versions, devices, optional parts, programs, caches."""
    machine = describe_machine()
    devices = {
        "system": machine["system"],
        "CPU": f"{machine['processor']}, {machine['cpu_cores']} cores, {machine['threads']} threads used by torch",
        "accelerators": ", ".join(machine["accelerators"]) or "none",
    }
    return [
        {name: found or "not installed" for name, found in machine["versions"].items()},
        devices,
        {name: "installed" if find_spec(module) else "not installed" for name, module in PRESENT.items()}
        | {f"extra {extra}": usable(module) for extra, module in EXTRAS.items()},
        {"fluidsynth (only to render MIDI)": shutil.which("fluidsynth") or "not found"},
        {
            "procedural music (MELODY_CM_CACHE)": _folder(cache_folder()),
            "model hub cache": _folder(constants.HF_HUB_CACHE),
            "torch hub cache": _folder(torch.hub.get_dir()),
            "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "not set"),
        },
    ]


def usable(module: str) -> str:
    """ "usable", or why importing the module fails: broken binary parts raise more than ImportError."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not installed ({error})"
    except (ImportError, OSError, RuntimeError) as error:
        return f"installed but not usable: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return "usable"


def _folder(path: Path | str) -> str:
    return f"{path}{'' if Path(path).is_dir() else ' (empty)'}"
