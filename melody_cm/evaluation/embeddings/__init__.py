"""Spaces in which generated and real audio are compared; one file each."""

from melody_cm.evaluation.embeddings.logmel import LogMelEmbedding

__all__ = ["LogMelEmbedding"]
