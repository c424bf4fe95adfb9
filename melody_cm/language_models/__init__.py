"""Language models over codes."""

from melody_cm.language_models.sliding_window import longest_hop, sample_long
from melody_cm.language_models.token_layout import Stream, TokenLayout
from melody_cm.language_models.token_lm import CausalTokenLM
