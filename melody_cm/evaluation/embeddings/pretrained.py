"""What embeddings with trained weights share: frozen, found without surprises, long audio cut into windows."""

import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AudioEmbedding

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


class PretrainedEmbedding(AudioEmbedding):
    """An embedding whose weights come from elsewhere: never trained, and absent from its owner's checkpoints."""

    def train(self, mode: bool = True) -> "PretrainedEmbedding":
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        return {} if destination is None else destination


def whole_windows(waveform: Float[Tensor, "b 1 t"], window: int) -> Float[Tensor, "b l 1 samples"]:
    """Long audio as windows of `window` samples; audio that is not longer is one window as it is.

    Their number is t / window, rounded; they are spread evenly from the first sample to the last, or begin with the
    first if there is only one. Neighbours overlap by at most half; less than half a window is left out in all.
    """
    length = waveform.shape[-1]
    count = max(1, (2 * length + window) // (2 * window))
    starts = [(length - window) * index // (count - 1) for index in range(count)] if count > 1 else [0]
    return torch.stack([waveform[..., start : start + window] for start in starts], dim=1)


def load_pretrained(kind: Any, source: str | None, preset: str, example: str, **options: Any) -> Any:
    """`kind.from_pretrained`, offline from a folder; only `owner/name` that is no path here asks the model hub.

    Args:
        kind: a class of transformers.
        preset: the embedding's name on the command line; example: a hub id of such weights. Both for the messages.
        options: passed on to `from_pretrained`.

    Raises:
        FileNotFoundError: no source, no such folder, or the hub does not give it.
        ValueError: the folder holds something else.
    """
    how = f"hf download {example} --local-dir FOLDER, then give {preset}:FOLDER"
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


def load_model(kind: Any, source: str | None, preset: str, example: str) -> Any:
    """A transformers model by `load_pretrained`: fp32, frozen and complete.

    Raises:
        ValueError: weights are missing, which transformers would replace by random ones.
    """
    options = {"dtype": torch.float32, "output_loading_info": True}
    model, report = load_pretrained(kind, source, preset, example, **options)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{source} is no complete {kind.__name__}: {len(missing)} weights are missing, the first {missing[0]}; "
            f"get one: hf download {example} --local-dir FOLDER"
        )
    return model.requires_grad_(False).eval()


def is_hub_id(source: str) -> bool:
    """Whether a text is `owner/name` and cannot be meant as a path, because no folder `owner` is here."""
    return bool(HUB_ID.fullmatch(source)) and not Path(source.split("/")[0]).exists()
