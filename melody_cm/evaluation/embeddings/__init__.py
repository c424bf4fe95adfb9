"""Spaces in which generated and real audio are compared."""

from melody_cm.evaluation.embeddings.level_matched import LevelMatchedEmbedding
from melody_cm.evaluation.embeddings.logmel import LogMelEmbedding
from melody_cm.evaluation.embeddings.musicnn import MusicnnEmbedding
from melody_cm.evaluation.embeddings.official import OfficialEmbedding, OptionalDependencyError
from melody_cm.evaluation.embeddings.pretrained import (
    ClapEmbedding,
    EncodecEmbedding,
    JointAudioEmbedding,
    PretrainedEmbedding,
)
from melody_cm.evaluation.embeddings.vggish import VGGishEmbedding
