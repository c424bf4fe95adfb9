"""Any embedding at equal loudness, so that a distance does not count how loud music is."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.interfaces import AudioEmbedding
from melody_cm.signal.loudness import loudness

LOUDNESS = -23.0  # LUFS, of EBU R128.


class LevelMatchedEmbedding(PretrainedEmbedding):
    """The vectors of an embedding that hears every clip at -23 LUFS, `<name>_level` in metric keys.

    Nothing is clipped. Silence stays silence. Both sides must be heard in the same way: the identity tells it.

    Args:
        embedding: what hears the clips.
    """

    def __init__(self, embedding: AudioEmbedding) -> None:
        super().__init__()
        self.embedding = embedding
        known = embedding.identity
        name, window = f"{known.name}_level", f"{known.window}, clips at {LOUDNESS:g} LUFS"
        self.identity = replace(known, name=name, window=window)
        self.tags = embedding.tags
        if hasattr(embedding, "embed_text"):
            self.embed_text = embedding.embed_text
        self.freeze(f"public/{known.weights}", None)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        measured = torch.tensor([loudness(clip[0], self.sample_rate) for clip in waveform], dtype=torch.float64)
        gains = torch.where(measured.isfinite(), 10 ** ((LOUDNESS - measured) / 20), 1.0)
        return self.embedding(waveform * gains.to(waveform)[:, None, None])
