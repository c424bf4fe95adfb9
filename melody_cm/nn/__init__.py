"""Layers that more than one network may need."""

from melody_cm.nn.attention import RoFormerLayer, RotaryAttention, SwiGLU, rotate
from melody_cm.nn.mlp import MLP, AngleEmbedding, FiLM
from melody_cm.nn.recurrent import BidirectionalSRU, SRULayer, sru_cell
