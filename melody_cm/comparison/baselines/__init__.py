"""Systems of other people, behind the same interface as ours: their pipelines, and audio that they made."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from melody_cm.comparison.baselines.baseline import Baseline
from melody_cm.comparison.baselines.recorded import RecordedMusic
from melody_cm.interfaces import Pipeline
from melody_cm.storage.pretrained import is_hub_id, reason_of

# By name, the class in `published`, which is imported only where it is needed: its libraries take seconds.
KINDS = {"musicgen": "MusicGen", "audioldm2": "AudioLDM2", "stable_audio": "StableAudio", "musicldm": "MusicLDM"}


def open_baseline(text: str, prompts: Sequence[str] | None = None) -> Pipeline:
    """The pipeline that a text names.

    Args:
        text: `KIND:SOURCE` with a kind of `KINDS` and SOURCE a hub id (owner/name), a local folder, or `random` for
            the published architecture with random weights; or `folder:PATH` for music that was made elsewhere.
        prompts: of the comparison, in order: they tell which is which in a folder without JSON files beside its sounds.

    Raises:
        FileNotFoundError, ValueError: no such baseline or source.
    """
    kind, _, source = text.partition(":")
    if kind == "folder" and source:
        return RecordedMusic(Path(source), prompts)
    if kind not in KINDS or not source:
        known = ", ".join([*KINDS, "folder"])
        raise ValueError(f"there is no baseline {text!r}; say KIND:SOURCE, with a kind of {known}")
    if source != "random" and not is_hub_id(source) and not Path(source).is_dir():
        raise FileNotFoundError(f"there is no folder {source}; give a folder, a hub id (owner/name), or random")
    try:
        baseline: type[Baseline] = getattr(import_module("melody_cm.comparison.baselines.published"), KINDS[kind])
        return baseline.random() if source == "random" else baseline.load(source)
    except (ImportError, OSError, RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{text} cannot be loaded ({reason_of(error, 300)}); give another hub id or folder, or {kind}:random"
        ) from error
