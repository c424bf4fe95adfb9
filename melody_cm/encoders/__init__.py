"""Encoders of prompts and music: joint embedding, tokenizers, and the conditioners that denoisers listen to."""

from melody_cm.encoders.conditioners import SemanticConditioner, TextConditioner
from melody_cm.encoders.joint import TwoTowerEmbedding
from melody_cm.encoders.tokenizers import LogMelKMeans, ResidualKMeans

__all__ = ["LogMelKMeans", "ResidualKMeans", "SemanticConditioner", "TextConditioner", "TwoTowerEmbedding"]
