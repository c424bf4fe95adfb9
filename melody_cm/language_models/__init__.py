"""Language models over codes."""

from melody_cm.language_models.token_layout import Stream, TokenLayout
from melody_cm.language_models.token_lm import CausalTokenLM

__all__ = ["CausalTokenLM", "Stream", "TokenLayout"]
