"""Joint text-audio embedding: two towers pulled together by a symmetric contrastive loss (MuLan's role)."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import JointEmbedding
from melody_cm.losses.contrastive import ContrastiveLoss
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class JointEmbeddingTraining(Stage):
    """Trains a joint embedding on clips and their captions; negatives are all other clips of the global batch.

    In validation they are those of the process's own share, so `val/contrastive` falls with more processes.

    Args:
        joint_embedding: learns.
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

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        audio = networks["joint_embedding"].embed_audio(batch.need_waveform())
        text = networks["joint_embedding"].embed_text(batch.captions)
        together = self.training and torch.distributed.is_initialized()
        return {"contrastive": networks["contrastive"](audio, text, gather=self._gather if together else None)}

    def _gather(self, embedding: Tensor) -> Tensor:
        return self.all_gather(embedding, sync_grads=True).flatten(0, -2)

    @property
    def exports(self) -> dict[str, torch.nn.Module]:
        return {"joint_embedding": self.averaged["joint_embedding"]}
