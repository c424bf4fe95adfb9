"""Public weights as parts of a recipe: folders in the layout of diffusers, one subfolder a network."""

from pathlib import Path
from typing import Any

import torch

from melody_cm.storage.hashing import hash_data
from melody_cm.storage.pretrained import from_pretrained, refuse_incomplete

DOWNLOAD_AGAIN = "download it again"


def public_stage(folder: str) -> str:
    """The name under which frozen weights of a public folder are known; fit for a folder of its own."""
    return f"public/{hash_data(folder)}"


def load_part(kind: Any, folder: str, part: str) -> Any:
    """One network of a public folder, by diffusers' or transformers' own `from_pretrained`: fp32 and complete.

    Args:
        kind: a model class of diffusers or transformers.
        part: the subfolder, e.g. "unet".

    Raises:
        FileNotFoundError: no such folder, or the hub does not give it.
        ValueError: it holds something else, or weights are missing, which would be replaced by random ones.
    """
    is_diffusers = hasattr(kind, "load_config")
    options = {"low_cpu_mem_usage": False, "torch_dtype": torch.float32} if is_diffusers else {"dtype": torch.float32}
    model, report = _part(kind, folder, part, output_loading_info=True, **options)
    refuse_incomplete(kind, f"{folder}/{part}", report, DOWNLOAD_AGAIN)
    return model.eval()


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a public folder, in the form of the tokenizers library.

    Raises:
        FileNotFoundError, ValueError: as in `load_part`.
    """
    from transformers import AutoTokenizer

    return _part(AutoTokenizer, folder, "tokenizer")


def read_scheduler(folder: str) -> dict[str, Any]:
    """The configuration of a public folder's noise schedule.

    Raises:
        FileNotFoundError, ValueError: as in `load_part`.
    """
    from diffusers import DDIMScheduler

    return dict(_part(DDIMScheduler, folder, "scheduler").config)


def _part(kind: Any, folder: str, part: str, **options: Any) -> Any:
    path = Path(folder).expanduser()
    if path.is_dir() and not (path / part).is_dir():
        raise FileNotFoundError(f"{folder} has no subfolder {part}; give a whole MusicLDM folder in diffusers' layout")
    wanted = "in the layout of diffusers; give one, or owner/name"
    return from_pretrained(kind, folder, wanted, f"in {part}", DOWNLOAD_AGAIN, subfolder=part, **options)
