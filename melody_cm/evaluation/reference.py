"""Reference statistics in files: our own, computed once and kept, and those of Microsoft's fadtk."""

import json
import logging
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from melody_cm import __version__
from melody_cm.data import Clip
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.storage import hash_data, hash_file, write_atomically

log = logging.getLogger(__name__)
FORMAT = "melody_cm embedding statistics 2"
TENSORS = ("clips", "frames", "sum", "outer", "sample")


def cached_statistics(
    identity: EmbeddingIdentity, clips: Sequence[Clip], compute: Callable[[], EmbeddingStatistics], folder: Path
) -> EmbeddingStatistics:
    """The statistics of clips in an embedding, from `folder` if they are there, else computed and put there.

    A damaged file is made again, and a folder that cannot be written is done without, with one line of warning each.
    """
    path = Path(folder) / f"{identity.name}-{statistics_key(identity, clips)}.safetensors"
    if path.is_file():
        try:
            return load_statistics(path)
        except (ValueError, OSError) as problem:
            log.warning("reference statistics are computed again: %s", problem)
    statistics = compute()
    try:
        save_statistics(statistics, path)
    except OSError as problem:
        log.warning("reference statistics are not kept: %s", problem)
    return statistics


def statistics_key(identity: EmbeddingIdentity, clips: Sequence[Clip]) -> str:
    """Hash of all that decides the statistics: embedding, this code, and the clips: ids, pieces, places, content."""
    files = {str(file): content_hash(file) for file in {clip.audio for clip in clips}}
    rows = sorted([clip.id, clip.piece, str(clip.start), str(clip.duration), files[str(clip.audio)]] for clip in clips)
    return hash_data([asdict(identity), FORMAT, __version__, rows])


def content_hash(file: Path) -> str:
    """The hash of a file; "missing" for none, which is itself a result (the clip is dropped)."""
    return hash_file(file) if file.is_file() else "missing"


def save_statistics(statistics: EmbeddingStatistics, path: Path) -> None:
    """Write a safetensors file atomically."""
    notes = {"dropped": json.dumps(statistics.dropped), "problems": json.dumps(statistics.problems)}
    tensors = {name: getattr(statistics, name).cpu().contiguous() for name in TENSORS}
    write_atomically(Path(path), lambda aside: save_file(tensors, aside, notes))


def load_statistics(path: Path) -> EmbeddingStatistics:
    """The statistics that `save_statistics` wrote.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged, or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors, notes = [file.get_tensor(name) for name in TENSORS], file.metadata()
        return EmbeddingStatistics(*tensors, Counter(json.loads(notes["dropped"])), json.loads(notes["problems"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no embedding statistics ({error!r}); remove it") from error


def read_fadtk(path: str | Path, model: str | None = None) -> Gaussian:
    """The Gaussian of one model in a file of fadtk's statistics, its `<model>.mu` and `<model>.cov`.

    The file does not tell how many clips it is of, so a distance to it has an interval for the generated side only.

    Args:
        model: fadtk's name of the embedding; may be left out where the file holds one model.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged or does not hold the model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:  # Nothing in it is ever executed.
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error}); make it again") from error
    models = sorted(name.removesuffix(".mu") for name in arrays if name.endswith(".mu"))
    model = models[0] if model is None and len(models) == 1 else model
    if model not in models or f"{model}.cov" not in arrays:
        raise ValueError(
            f"{path} holds no statistics of {model!r}; name one of its models: {', '.join(models) or 'none'}"
        )
    mean, cov = (arrays[f"{model}.{part}"] for part in ("mu", "cov"))
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
        raise ValueError(f"{path}: mu has the shape {mean.shape} and cov {cov.shape}, but (d,) and (d, d) are needed")
    # Files may be of float32 sums, where both halves of a covariance differ by rounding.
    finite = np.isfinite(mean).all() and np.isfinite(cov).all()
    if not finite or not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * np.abs(cov).max(initial=0.0)):
        raise ValueError(f"{path}: the statistics of {model} are not finite or not symmetric; make the file again")
    return Gaussian(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(cov.astype(np.float64)))
