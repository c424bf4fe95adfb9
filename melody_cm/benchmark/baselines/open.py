"""A baseline by its name: `musicgen:facebook/musicgen-small`, `musicldm:random`, `folder:clips`, ..."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from melody_cm.benchmark.baselines.recorded import RecordedMusic
from melody_cm.interfaces import Pipeline

# By name: the class, in a module that is imported only for it, and the packages that it needs.
KINDS = {
    "musicgen": ("melody_cm.benchmark.baselines.musicgen.MusicGen", "transformers"),
    "audioldm2": ("melody_cm.benchmark.baselines.diffusion.AudioLDM2", "diffusers transformers"),
    "stable_audio": ("melody_cm.benchmark.baselines.diffusion.StableAudio", "diffusers transformers"),
    "musicldm": ("melody_cm.benchmark.baselines.diffusion.MusicLDM", "diffusers transformers"),
}


def open_baseline(text: str, prompts: Sequence[str] | None = None) -> Pipeline:
    """The pipeline that a text names.

    Args:
        text: `KIND:SOURCE` with a kind of `KINDS` and SOURCE a hub id (owner/name), a local folder, or `random` for
            the published architecture with random weights; or `folder:PATH` for music that was made elsewhere.
        prompts: of the comparison, in order: they tell which is which in a folder without JSON files beside its sounds.

    Raises:
        FileNotFoundError, ValueError: no such baseline, source or package.
    """
    kind, _, source = text.partition(":")
    if kind == "folder" and source:
        return RecordedMusic(Path(source), prompts)
    if kind not in KINDS or not source:
        known = ", ".join([*KINDS, "folder"])
        raise ValueError(f"there is no baseline {text!r}; say KIND:SOURCE, with a kind of {known}")
    baseline = _find(kind)
    try:
        return baseline.random() if source == "random" else baseline.load(_existing(source))
    except (ImportError, OSError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, FileNotFoundError) and error.errno is None:  # Our own, already one clear line.
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"{text} cannot be loaded ({reason}); give another hub id or folder, or {kind}:random"
        ) from error


def _find(kind: str) -> Any:
    path, packages = KINDS[kind]
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{kind} needs other packages ({reason}); pip install {packages}") from error


def _existing(source: str) -> str:
    """A source that is a folder, or might be a hub id."""
    looks_like_a_hub_id = source.count("/") == 1 and not source.startswith((".", "/", "~"))
    if not Path(source).is_dir() and not looks_like_a_hub_id:
        raise FileNotFoundError(f"there is no folder {source}; give a folder, a hub id (owner/name), or random")
    return source
