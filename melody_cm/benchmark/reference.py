"""The real music that a comparison is measured against."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation import EmbeddingStatistics
from melody_cm.interfaces import AudioEmbedding
from melody_cm.storage import hash_data


@dataclass
class Reference:
    """Real music in the space of one embedding, and a hash of it."""

    embedding: AudioEmbedding
    statistics: EmbeddingStatistics

    @property
    def key(self) -> str:
        """What results in this space depend on."""
        return hash_data([str(self.embedding.identity), self.statistics.num_clips, self.statistics.sum.tolist()])

    @property
    def centre(self) -> Float[Tensor, " d"]:
        """The mean of all its frames: where directions are seen from, the same for all systems."""
        statistics = self.statistics
        return (statistics.sum.sum(0) / statistics.frames.sum()).float()
