"""Reference statistics in files: our own, computed once and kept, and those of Microsoft's fadtk."""

import json
import logging
import zipfile
import zlib
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
FORMAT = "melody_cm embedding statistics 3"
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
    notes = {"dropped": json.dumps(statistics.dropped)}
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
        return EmbeddingStatistics(*tensors, json.loads(notes["dropped"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no embedding statistics ({error!r}); remove it") from error


def read_fadtk(path: str | Path) -> Gaussian:
    """The Gaussian in a file of fadtk's statistics of one model, its `<model>.mu` and `<model>.cov`.

    The file does not tell how many clips it is of, so a distance to it has an interval for the generated side only.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:  # Nothing in it is ever executed.
            (mean,), (cov,) = ([file[name] for name in file.files if name.endswith(part)] for part in (".mu", ".cov"))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: no readable .npz file of one model's mu and cov ({error}); make it again") from error
    # Files may be of float32 sums, where both halves of a covariance differ by rounding.
    whole = mean.ndim == 1 and cov.shape == 2 * mean.shape and np.isfinite(mean).all() and np.isfinite(cov).all()
    if not whole or not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * np.abs(cov).max(initial=0.0)):
        raise ValueError(f"{path}: mu and cov must be finite, (d,) and a symmetric (d, d); make the file again")
    return Gaussian(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(cov.astype(np.float64)))
