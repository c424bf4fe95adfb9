"""Public models of transformers by folder or hub id: found without surprises, fp32, frozen and complete."""

import re
from pathlib import Path
from typing import Any

import torch

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


def load_pretrained(kind: Any, source: str | None, preset: str, example: str, give: str = "", **options: Any) -> Any:
    """`kind.from_pretrained`, offline from a folder; only `owner/name` that is no path here asks the model hub.

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
    local = Path(source).expanduser().is_dir()
    if not local and not is_hub_id(source):
        raise FileNotFoundError(f"there is no folder {source} with the weights of {preset}; get them: {how}")
    try:
        return kind.from_pretrained(str(Path(source).expanduser()), local_files_only=local, **options)
    except Exception as error:  # transformers and the hub client raise many kinds; each means that it cannot be had.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = ValueError if local else FileNotFoundError
        raise problem(f"{source} gives no {kind.__name__} for {preset} ({reason}); get one: {how}") from error


def load_model(kind: Any, source: str | None, preset: str, example: str, give: str = "") -> Any:
    """A transformers model by `load_pretrained`: fp32, frozen and complete.

    Raises:
        ValueError: weights are missing, which transformers would replace by random ones.
    """
    options = {"dtype": torch.float32, "output_loading_info": True}
    model, report = load_pretrained(kind, source, preset, example, give, **options)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} is no complete {kind.__name__}: {len(missing)} weights are missing, the first {missing[0]}; "
            f"get one: hf download {example} --local-dir FOLDER"
        )
    return model.requires_grad_(False).eval()


def is_hub_id(source: str) -> bool:
    """Whether a text is `owner/name` and cannot be meant as a path, because no folder `owner` is here."""
    return bool(HUB_ID.fullmatch(source)) and not Path(source.split("/")[0]).exists()
