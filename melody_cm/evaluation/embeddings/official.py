"""Embeddings of the frechet-audio-distance package, for numbers that others can check; its own arithmetic is not used.

The package is optional, and in many environments it cannot even be imported, so it is imported when asked for. Its
`get_embeddings` prints errors and goes on without the clip, and its `score` returns -1: neither can happen here.
"""

import contextlib
import importlib
import importlib.metadata
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.signal.windows import whole_windows
from melody_cm.storage import hash_weights
from melody_cm.storage.pretrained import reason_of

PACKAGE = "frechet-audio-distance"
INSTALL = "pip install 'melody_cm[fad]'"
VGGISH = "https://github.com/harritaylor/torchvggish"
RELEASE = f"{VGGISH}/releases/download/v0.1"


class Model(NamedTuple):
    """One of the package's models, as the package uses it.

    Attributes:
        sample_rate: Hz; width: d.
        min_samples: of a clip; frames: vectors of a clip of so many samples.
        window: of the identity.
        files: relative path of each file that it needs, and where it comes from.
    """

    sample_rate: int
    width: int
    min_samples: int
    frames: Callable[[int], int]
    window: str
    files: dict[str, str]


MODELS = {
    "vggish": Model(
        16000, 128, 15600, lambda samples: (1 + (samples - 400) // 160) // 96, "0.96 s patches without overlap",
        {
            "harritaylor_torchvggish_master/hubconf.py": VGGISH,
            "checkpoints/vggish-10086976.pth": f"{RELEASE}/vggish-10086976.pth",
            "checkpoints/vggish_pca_params-970ea276.pth": f"{RELEASE}/vggish_pca_params-970ea276.pth",
        },
    ),
    "pann": Model(
        16000, 2048, 16000, lambda samples: 1, "whole clips",
        {"Cnn14_16k_mAP%3D0.438.pth": "https://zenodo.org/record/3987831/files/Cnn14_16k_mAP%3D0.438.pth"},
    ),
    "clap": Model(
        48000, 512, 4800, lambda samples: 1, "10 s windows, evenly spread",
        {"630k-audioset-best.pt": "https://huggingface.co/lukewys/laion_clap/resolve/main/630k-audioset-best.pt"},
    ),
    "encodec": Model(
        24000, 128, 2400, lambda samples: -(-samples // 320), "13.3 ms encoder frames",
        {"checkpoints/encodec_24khz-d7cc33bc.th": "https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th"},
    ),
}  # fmt: skip


class OptionalDependencyError(ValueError):
    """A package that is not part of every installation is missing or does not work; the message says how to get it."""


class OfficialEmbedding(PretrainedEmbedding):
    """What the frechet-audio-distance package embeds with, in the package's default settings.

    Args:
        model_name: vggish (no PCA, no last ReLU), pann (16 kHz), clap (630k-audioset) or encodec (24 kHz).
        ckpt_dir: folder with the weights that the package would otherwise download; None for torch's hub folder.

    Raises:
        OptionalDependencyError: the package is absent or does not work here.
        FileNotFoundError: weights are missing; the message has the command that gets them.
        ValueError: another model, a waveform that is too short for it, or an embedding that is not finite.
        RuntimeError: the package failed on a clip, or gave something else than its embeddings.
    """

    def __init__(self, model_name: str = "vggish", ckpt_dir: str | None = None) -> None:
        super().__init__()
        if model_name not in MODELS:
            raise ValueError(f"model_name is {model_name!r}; the package knows {', '.join(MODELS)}")
        self.model_name, self.model = model_name, MODELS[model_name]
        self.package, version = _open_package(model_name, Path(ckpt_dir or torch.hub.get_dir()).expanduser())
        name, weights = f"official_{model_name}", hash_weights(self.package.model)
        shape = (self.model.sample_rate, self.model.window, self.model.width)
        self.identify(name, f"{PACKAGE}-{version}", weights, *shape)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        length, rate = waveform.shape[-1], self.sample_rate
        if length < self.model.min_samples:
            needed = self.model.min_samples / rate
            raise ValueError(f"{length / rate:.2f} s of audio; {self.name} needs at least {needed:g} s")
        # CLAP's own code would crop longer audio at random.
        window = 10 * rate if self.model_name == "clap" else length
        clips = [torch.cat([self._embed(part[0]) for part in parts]) for parts in whole_windows(waveform, window)]
        vectors = torch.stack(clips).to(waveform.device)
        if not vectors.isfinite().all():
            raise ValueError(f"{PACKAGE} gave an embedding that is not finite")
        return vectors

    def _embed(self, waveform: Float[Tensor, " t"]) -> Float[Tensor, "l d"]:
        """One clip at a time, because the package drops the rest of a list after the first failure."""
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                found: Any = self.package.get_embeddings([waveform.detach().cpu().numpy()], self.sample_rate)
            vectors = torch.as_tensor(found, dtype=torch.float32).reshape(-1, self.width)
        except Exception as error:  # Whatever it is, the package's own reason is what it has printed.
            raise RuntimeError(f"{PACKAGE} failed: {printed.getvalue().strip() or error}") from error
        expected = self.model.frames(len(waveform))
        if len(vectors) != expected:
            raise RuntimeError(
                f"{PACKAGE} gave {len(vectors)} embeddings of a clip that has {expected}: {printed.getvalue().strip()}"
            )
        return vectors


def _open_package(model_name: str, folder: Path) -> tuple[Any, str]:
    """The package's object with its model, and the package's version."""
    try:
        package = importlib.import_module("frechet_audio_distance")
        version = importlib.metadata.version(PACKAGE)
    except (ImportError, OSError, RuntimeError) as error:  # A C++ extension that does not fit is not an ImportError.
        raise OptionalDependencyError(
            f"official needs the package {PACKAGE}, which cannot be imported here ({reason_of(error)}); get it with "
            f"{INSTALL} in an environment of its own, because it needs numpy < 2 and a torchaudio that works"
        ) from error
    _check_files(model_name, folder)
    hub_folder = torch.hub.get_dir()
    try:
        model = package.FrechetAudioDistance(
            ckpt_dir=str(folder), model_name=model_name, sample_rate=MODELS[model_name].sample_rate
        )
    except (ImportError, OSError, RuntimeError) as error:
        raise OptionalDependencyError(
            f"{PACKAGE} cannot load its {model_name} from {folder} ({reason_of(error)}); reinstall it with {INSTALL}, "
            "or download the weights again"
        ) from error
    finally:
        torch.hub.set_dir(hub_folder)  # The package has changed it for the whole process.
    return model, version


def _check_files(model_name: str, folder: Path) -> None:
    """Refuse, with FileNotFoundError and the command that helps, what would make the package download."""
    for name, url in MODELS[model_name].files.items():
        file = folder / name
        if not file.is_file():
            command = f"git clone {url} {file.parent}" if url == VGGISH else f"curl -L --create-dirs -o {file} {url}"
            raise FileNotFoundError(f"official {model_name} needs {file}; get it: {command}")
    if model_name == "clap" and not isinstance(try_to_load_from_cache("roberta-base", "config.json"), str):
        raise FileNotFoundError("official clap needs roberta-base in the hub cache; get it: hf download roberta-base")
