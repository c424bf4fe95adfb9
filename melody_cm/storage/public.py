"""Public weights as parts of a recipe: folders in the layout of diffusers, one subfolder a network."""

import re
from pathlib import Path
from typing import Any

import torch

from melody_cm.storage.frozen import Frozen
from melody_cm.storage.hashing import hash_data, hash_weights


class Public(Frozen):
    """A network of a public folder where else the network of a finished stage stands: frozen, never checkpointed.

    Subclasses say by `load` how the folder's parts become one of ours.

    Args:
        folder: a folder in the layout of diffusers, or its id on the model hub (owner/name).
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        # A name that is fit for a folder: what it encodes is kept under it.
        self.stage = f"public/{hash_data(folder)}"

    @property
    def weights(self) -> str:
        return hash_weights(self.network)


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
    model, report = _from_pretrained(kind, folder, part, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{folder}/{part} is no complete {kind.__name__}: {len(missing)} weights are missing, the first "
            f"{missing[0]}; download it again"
        )
    return model.eval()


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a public folder, in the form of the tokenizers library.

    Raises:
        FileNotFoundError, ValueError: as in `load_part`.
    """
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, folder, "tokenizer")


def read_scheduler(folder: str) -> dict[str, Any]:
    """The configuration of a public folder's noise schedule.

    Raises:
        FileNotFoundError, ValueError: as in `load_part`.
    """
    from diffusers import DDIMScheduler

    return dict(_from_pretrained(DDIMScheduler, folder, "scheduler").config)


def _from_pretrained(kind: Any, folder: str, part: str, **options: Any) -> Any:
    local = Path(folder).is_dir()
    if not local and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", folder):
        raise FileNotFoundError(f"there is no folder {folder}; give a folder in the layout of diffusers, or owner/name")
    if local and not (Path(folder) / part).is_dir():
        raise FileNotFoundError(f"{folder} has no subfolder {part}; give a whole MusicLDM folder in diffusers' layout")
    try:
        return kind.from_pretrained(folder, subfolder=part, local_files_only=local, **options)
    except Exception as error:  # The libraries and the hub raise many kinds; each means that it cannot be had.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = ValueError if local else FileNotFoundError
        raise problem(f"{folder} gives no {kind.__name__} in {part} ({reason}); download it again") from error
