"""Encoders of prompts and music: joint embedding, tokenizers, and the conditioners that denoisers listen to."""

from melody_cm.encoders.clap import ClapJointEmbedding
from melody_cm.encoders.codec_tokenizer import CodecTokenizer
from melody_cm.encoders.conditioners import SemanticConditioner, TextConditioner
from melody_cm.encoders.joint import TwoTowerEmbedding
from melody_cm.encoders.masked_prediction import MaskedPrediction
from melody_cm.encoders.musicldm_text import ClapTextEmbedding, musicldm_text
from melody_cm.encoders.pretrained_joint import PretrainedTwoTowerEmbedding
from melody_cm.encoders.pretrained_semantic import PretrainedSemanticEncoder
from melody_cm.encoders.semantic import Wav2Vec2ConformerEncoder
from melody_cm.encoders.semantic_tokenizer import SemanticKMeans
from melody_cm.encoders.stability import cluster_stability, cluster_use
from melody_cm.encoders.tokenizers import LogMelKMeans, ResidualKMeans
