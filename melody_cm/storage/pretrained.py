"""Public models by folder or hub id: found without surprises, fp32, frozen and complete."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from melody_cm.storage.hashing import hash_data

DOWNLOAD_AGAIN = "download it again"
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_offline_for: ContextVar[Any] = ContextVar("offline_for", default=None)


@contextmanager
def offline(file: Path) -> Iterator[None]:
    """Ask no model hub inside this block: what is built is described by a file that may come from anywhere.

    Raises:
        ValueError, OSError: whatever goes wrong inside; the message names the file or its folder.
    """
    token = _offline_for.set(file)
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # Constructors of the libraries raise many kinds.
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and str(Path(file).parent) in reason:
            raise
        raise ValueError(f"{file} describes nothing that can be built: {reason[:300]}") from error
    finally:
        _offline_for.reset(token)


def reason_of(error: Exception, length: int = 200) -> str:
    """What an error of a library says, in one line of at most so many characters; its kind if it says nothing."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def load_pretrained(kind: Any, source: str | None, preset: str, example: str, give: str = "", **options: Any) -> Any:
    """Something of transformers by `from_pretrained`, for a preset that says how its weights are had.

    Args:
        kind: a class of transformers.
        preset: the model's name on the command line; example: a hub id of such weights; give: how a folder is named to
            what needs it, where that is not "give PRESET:FOLDER". All for the messages.
        options: passed on to `from_pretrained`.

    Raises:
        FileNotFoundError: no source, no such folder, or the hub does not give it.
        ValueError: the folder holds something else.
    """
    how = f"hf download {example} --local-dir FOLDER, then {give or f'give {preset}:FOLDER'}"
    if source is None:
        raise FileNotFoundError(f"{preset} needs weights: {how} (or {preset}:{example} to download them by name)")
    wanted = f"with the weights of {preset}; get them: {how}"
    return from_pretrained(kind, source, wanted, f"for {preset}", f"get one: {how}", **options)


def from_pretrained(kind: Any, source: str, wanted: str, place: str, fix: str, **options: Any) -> Any:
    """`kind.from_pretrained`, offline from a folder; only `owner/name` that is no path here asks the model hub.

    Args:
        kind: a class of transformers or diffusers.
        wanted: what folder is missing, and what to do, where there is none; place, fix: where `kind` was looked for,
            and what to do, where it is not. All for the messages.
        options: passed on.

    Raises:
        FileNotFoundError: no such folder, or the hub does not give it.
        ValueError: the folder holds something else.
    """
    path = Path(source).expanduser()
    local = path.is_dir()
    if not local and (file := _offline_for.get()) is not None:
        raise FileNotFoundError(f"{file} wants {source} of the model hub, but a saved folder never asks it")
    if not local and not is_hub_id(source):
        raise FileNotFoundError(f"there is no folder {source} {wanted}")
    if kind.__module__.startswith("transformers"):
        options["trust_remote_code"] = False
    try:
        return kind.from_pretrained(str(path), local_files_only=local, **options)
    except Exception as error:  # The libraries and the hub client raise many kinds; each means that it cannot be had.
        problem = ValueError if local else FileNotFoundError
        raise problem(f"{source} gives no {kind.__name__} {place} ({reason_of(error)}); {fix}") from error


def load_model(kind: Any, source: str | None, preset: str, example: str, give: str = "", **options: Any) -> Any:
    """A transformers model by `load_pretrained`: fp32, frozen and complete; on the processor, whatever the context.

    Raises:
        ValueError: weights are missing, which transformers would replace by random ones.
    """
    options |= {"dtype": torch.float32, "output_loading_info": True}
    with torch.device("cpu"):  # Weights have values even where a network is only counted.
        model, report = load_pretrained(kind, source, preset, example, give, **options)
    refuse_incomplete(kind, str(source), report, f"get one: hf download {example} --local-dir FOLDER")
    return model.requires_grad_(False).eval()


def refuse_incomplete(kind: Any, source: str, report: Mapping[str, Any], fix: str) -> None:
    """Refuse a model that came, by its loading report, without some weights: random ones stand in for them.

    Raises:
        ValueError: weights are missing.
    """
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} is no complete {kind.__name__}: {len(missing)} weights are missing, the first {missing[0]}; "
            f"{fix}"
        )


def is_hub_id(source: str) -> bool:
    """Whether a text is `owner/name` and cannot be meant as a path, because no folder `owner` is here."""
    return bool(HUB_ID.fullmatch(source)) and not Path(source.split("/")[0]).exists()


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
