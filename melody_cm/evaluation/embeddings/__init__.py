"""Spaces in which generated and real audio are compared; one file each."""

from melody_cm.evaluation.embeddings.clap import ClapEmbedding
from melody_cm.evaluation.embeddings.encodec import EncodecEmbedding
from melody_cm.evaluation.embeddings.joint import JointAudioEmbedding
from melody_cm.evaluation.embeddings.logmel import LogMelEmbedding
from melody_cm.evaluation.embeddings.official import OfficialEmbedding, OptionalDependencyError
from melody_cm.evaluation.embeddings.pretrained import PretrainedEmbedding
from melody_cm.evaluation.embeddings.vggish import VGGishEmbedding

__all__ = [
    "ClapEmbedding",
    "EncodecEmbedding",
    "JointAudioEmbedding",
    "LogMelEmbedding",
    "OfficialEmbedding",
    "OptionalDependencyError",
    "PretrainedEmbedding",
    "VGGishEmbedding",
]
