"""Joint text-audio embedding: two towers pulled together by a symmetric contrastive loss (MuLan's role)."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import JointEmbedding, Network
from melody_cm.losses.contrastive import ContrastiveLoss
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage

SPLITS = ("train", "valid")


class JointEmbeddingTraining(Stage):
    """Trains a joint embedding on clips and their captions; negatives are all other clips of the global batch.

    In validation they are those of the process's own share, so `val/contrastive` falls with more processes; recall over
    the whole held-back split (`RetrievalCallback`) does not depend on them. A ValueError before the first step if clips
    have no captions.

    Args:
        joint_embedding: learns.

    Attributes:
        width: d of the embedding.
    """

    def __init__(
        self,
        joint_embedding: JointEmbedding,
        optimization: Optimization,
        ema_decay: float = 0.999,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        trained = {"joint_embedding": joint_embedding, "contrastive": ContrastiveLoss()}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed)
        self.width = joint_embedding.width

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        audio, text = _pairs(networks, batch)
        together = self.training and torch.distributed.is_initialized()
        return {"contrastive": networks["contrastive"](audio, text, gather=self._gather if together else None)}

    def embed_pairs(self, batch: MusicBatch) -> tuple[Tensor, Tensor]:
        """Unit vectors (b, d) of the clips and of their captions, of the averaged embedding."""
        return _pairs(self.averaged, batch)

    def on_fit_start(self) -> None:
        for split in SPLITS:
            clips = self.trainer.datamodule.split_clips(split)
            mute = [clip for clip in clips if not clip.captions or not all(text.strip() for text in clip.captions)]
            if mute:
                raise ValueError(
                    f"{len(mute)} of {len(clips)} '{split}' clips have no caption, the first {mute[0].where}; a joint "
                    "embedding learns from captioned clips alone: give them captions or leave them out"
                )

    def _gather(self, embedding: Tensor) -> Tensor:
        return self.all_gather(embedding, sync_grads=True).flatten(0, -2)

    @property
    def exports(self) -> dict[str, Network]:
        return {"joint_embedding": self.averaged["joint_embedding"]}


def _pairs(networks: Networks, batch: MusicBatch) -> tuple[Tensor, Tensor]:
    embedding = networks["joint_embedding"]
    return embedding.embed_audio(batch.need_waveform()), embedding.embed_text(batch.captions)
