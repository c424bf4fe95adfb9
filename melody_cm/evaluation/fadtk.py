"""Reference statistics in the format of Microsoft's fadtk: `<model>.mu` and `<model>.cov` in one `.npz` file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from melody_cm.evaluation.group_sums import Gaussian
from melody_cm.evaluation.statistics import read_arrays, write_arrays


def read_fadtk(path: str | Path, model: str | None = None) -> Gaussian:
    """The Gaussian of one model.

    The file does not tell how many clips it is of, so a distance to it has an interval for the generated side only.

    Args:
        model: fadtk's name of the embedding; may be left out where the file holds one model.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged or does not hold the model.
    """
    arrays = read_arrays(Path(path))
    models = sorted(name.removesuffix(".mu") for name in arrays if name.endswith(".mu"))
    if model is None and len(models) == 1:
        model = models[0]
    if model not in models or f"{model}.cov" not in arrays:
        raise ValueError(
            f"{path} holds no statistics of {model!r}; name one of its models: {', '.join(models) or 'none'}"
        )
    mean, cov = (np.asarray(arrays[f"{model}.{part}"]) for part in ("mu", "cov"))
    if problem := _problem(mean, cov):
        raise ValueError(f"{path}, {model}: {problem}; make the file again")
    return Gaussian(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(cov.astype(np.float64)))


def write_fadtk(path: str | Path, gaussians: Mapping[str, Gaussian]) -> None:
    """Write Gaussians by fadtk's names of their embeddings, atomically."""
    parts = {
        f"{model}.{part}": tensor.cpu().numpy()
        for model, gaussian in gaussians.items()
        for part, tensor in zip(("mu", "cov"), gaussian, strict=True)
    }
    write_arrays(Path(path), parts)


def _problem(mean: np.ndarray, cov: np.ndarray) -> str | None:
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
        return f"mu has the shape {mean.shape} and cov {cov.shape}, but (d,) and (d, d) are needed"
    if mean.dtype.kind != "f" or cov.dtype.kind != "f" or not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        return "its numbers are not finite"
    # Files may be of float32 sums, where both halves differ by rounding.
    if not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * np.abs(cov).max(initial=0.0)):
        return "its covariance is not symmetric"
    return None
