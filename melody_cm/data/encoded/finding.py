"""Which of the things that a model's frozen encoders give are in the cache, and fresh."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from melody_cm.data.encoded.cache import INDEX, EncodedClips, EncodedOutput, identity, staleness
from melody_cm.data.encoded.outputs import FrozenOutput, frozen_outputs, hears_by_itself
from melody_cm.storage import hash_data


def cache_folder(run: Path, data: dict[str, Any]) -> Path:
    """Where what is encoded of this corpus, at this rate and length, is kept; stages that agree on them share it."""
    return Path(run) / "encoded" / hash_data([data["corpus"], data["sample_rate"], float(data["seconds"])])


def find_encoded(
    folder: Path, model: nn.Module, sample_rate: int, fingerprint: Callable[[], str]
) -> EncodedClips | None:
    """What a training of `model` can read instead of encoding, or None if nothing is there.

    Waveforms are read as well where the step itself, a part that is not frozen or an encoder that was not run before
    needs them.

    Args:
        folder: of the cache for the data module's corpus, rate and length.
        fingerprint: of the data module; asked only if something is there.
        model: the LightningModule; its `reads_waveform` says whether its step wants waveforms.

    Raises:
        ValueError: something there was made from other weights or other music, or is damaged.
    """
    if not folder.is_dir():
        return None
    outputs = frozen_outputs(model, sample_rate)
    there = [output for output in outputs if (folder / output.name / INDEX).is_file()]
    if not there:
        return None
    now = fingerprint()
    for output in there:
        _refuse_stale(folder / output.name, output, now)
    waiting = any(output not in there and not output.reads_captions for output in outputs)
    reads_waveform = waiting or getattr(model, "reads_waveform", True) or hears_by_itself(model)
    return EncodedClips([EncodedOutput(folder / output.name) for output in there], reads_waveform)


def _refuse_stale(folder: Path, output: FrozenOutput, data_fingerprint: str) -> None:
    if changed := staleness(folder, identity(output, data_fingerprint)):
        raise ValueError(
            f"{folder} was encoded from something else: {'; '.join(changed)}; run `melody-cm data encode` for this "
            "recipe with --again, or delete that folder"
        )
