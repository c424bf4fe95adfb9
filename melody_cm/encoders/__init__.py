"""Encoders of prompts and music: joint embedding, tokenizers, and the conditioners that denoisers listen to."""

from melody_cm.encoders.clap import ClapJointEmbedding, ClapTextEmbedding, musicldm_text
from melody_cm.encoders.codebooks import cluster_stability, cluster_use, codebook_report
from melody_cm.encoders.conditioners import SemanticConditioner, TextConditioner
from melody_cm.encoders.masked_prediction import MaskedPrediction
from melody_cm.encoders.residual_tokenizers import CodecTokenizer, ResidualKMeans
from melody_cm.encoders.semantic import PretrainedSemanticEncoder, Wav2Vec2ConformerEncoder
from melody_cm.encoders.semantic_tokenizers import LogMelKMeans, SemanticKMeans
from melody_cm.encoders.two_towers import PretrainedTwoTowerEmbedding, TwoTowerEmbedding
