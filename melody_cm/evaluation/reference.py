"""Reference statistics in files: our own, computed once and kept, and those of Microsoft's fadtk."""

import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

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
# What fadtk calls our embeddings; "official_" before a name changes nothing of that.
FADTK_MODELS: dict[str, tuple[str, ...]] = {
    "logmel": (),
    "joint": (),
    "vggish": ("vggish",),
    "encodec": ("encodec-emb",),
    "clap": ("clap-laion-audio", "clap-laion-music"),
}
NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError, KeyError, MemoryError)
MAX_ARRAY_BYTES = 1 << 29  # Of a covariance: it has 8192 rows then.
ROUNDING = 1e-3  # Of variances in files of single precision, as a part of the largest.
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


class FadtkFile(NamedTuple):
    """A file of fadtk's statistics, and the name in it of the model that is meant, where several would do."""

    path: Path
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> "FadtkFile | None":
        """`FILE.npz` or `FILE.npz:MODEL`; None for anything else."""
        if text.endswith(".npz"):
            return cls(Path(text))
        path, _, model = text.rpartition(":")
        return cls(Path(path), model) if path.endswith(".npz") and model else None

    def model_for(self, embedding: str) -> str:
        """The model in the file whose statistics are those of an embedding.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds another model's statistics, or those of several that would do.
        """
        models = [name.removesuffix(".mu") for name in _npz(self.path).files if name.endswith(".mu")]
        known = FADTK_MODELS.get(embedding.removeprefix("official_"))
        fitting = [name for name in models if name == embedding or name in (known or ())]
        if self.model is not None:  # What we do not know, the user may.
            fitting = [name for name in (models if known is None else fitting) if name == self.model]
        if len(fitting) == 1:
            return fitting[0]
        held = f"{self.path} holds statistics of {', '.join(models) or 'no model'}"
        if fitting:
            raise ValueError(f"{held}; say which is meant: {self.path}:{fitting[0]}")
        wanted = f" as {self.model}" if self.model else ""
        raise ValueError(f"{held}, none{wanted} of the embedding {embedding}; give statistics of {embedding}")

    def gaussian(self, embedding: str) -> Gaussian:
        """The `<model>.mu` and `<model>.cov` of an embedding's model.

        The file does not tell how many clips it is of, so a distance to it has an interval for the generated side only.

        Raises:
            FileNotFoundError, ValueError: as `model_for`, or the numbers are damaged.
        """
        path, model = self.path, self.model_for(embedding)
        try:
            with _npz(path) as file:
                mean, cov = file[f"{model}.mu"], file[f"{model}.cov"]
        except NPZ_ERRORS as error:
            raise ValueError(f"{path}: no readable mu and cov of {model} ({error!r}); make it again") from error
        # Files may be of float32 sums, where both halves of a covariance differ by rounding.
        whole = mean.ndim == 1 and cov.shape == 2 * mean.shape and {mean.dtype.kind, cov.dtype.kind} <= set("fiu")
        whole = whole and np.isfinite(mean).all() and np.isfinite(cov).all()
        if not whole or not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * np.abs(cov).max(initial=0.0)):
            raise ValueError(f"{path}: mu and cov must be finite, (d,) and a symmetric (d, d); make the file again")
        spread = np.linalg.eigvalsh(cov.astype(np.float64))
        if spread[-1] <= 0 or spread[0] < -ROUNDING * spread[-1]:
            raise ValueError(
                f"{path}: variances from {spread[0]:.3g} to {spread[-1]:.3g} along the axes of cov, which no music of "
                "several frames has; make the file again"
            )
        return Gaussian(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(cov.astype(np.float64)))


def _npz(path: Path) -> np.lib.npyio.NpzFile:
    """The open file, of which nothing was read yet; nothing in it is ever executed."""
    try:
        file = np.load(path, allow_pickle=False)
        largest = max((entry.file_size for entry in file.zip.infolist()), default=0)
    except NPZ_ERRORS as error:
        raise ValueError(f"{path}: no readable .npz file of models' mu and cov ({error}); make it again") from error
    if largest > MAX_ARRAY_BYTES:
        raise ValueError(
            f"{path}: holds an array of {largest} bytes; no mean or covariance has more than {MAX_ARRAY_BYTES}"
        )
    return file
