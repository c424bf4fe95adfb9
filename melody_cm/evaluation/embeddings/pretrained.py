"""What embeddings with trained weights share: frozen, found without surprises, long audio cut into windows."""

from typing import Any

from melody_cm.interfaces import AudioEmbedding
from melody_cm.signal.windows import whole_windows
from melody_cm.storage.pretrained import is_hub_id, load_model, load_pretrained

__all__ = ["PretrainedEmbedding", "is_hub_id", "load_model", "load_pretrained", "whole_windows"]


class PretrainedEmbedding(AudioEmbedding):
    """An embedding whose weights come from elsewhere: never trained, and absent from its owner's checkpoints."""

    def train(self, mode: bool = True) -> "PretrainedEmbedding":
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        return {} if destination is None else destination
