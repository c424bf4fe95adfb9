"""Rotary attention and the RoFormer layer built from it (arXiv 2104.09864; MeLoDy, section 4.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from melody_cm.placement import keep_fp32


def rotate(x: Float[Tensor, "r h n e"], positions: Float[Tensor, " n"]) -> Float[Tensor, "r h n e"]:
    """Turn channel pairs (i, i + e/2) by `position * 10000 ** (-2i/e)`: dot products then depend on distance alone."""
    pairs = x.shape[-1] // 2
    exponent = torch.arange(pairs, device=x.device, dtype=torch.float32) / pairs
    turn = positions.float()[:, None] * 10000.0**-exponent
    cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class RotaryAttention(nn.Module):
    """Multi-head attention without biases; self-attention where the source is the sequence itself.

    Args:
        width: of sequence, source and output.
        num_heads: must divide `width` into an even head width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(f"width {width} must be divisible by 2 * num_heads = {2 * num_heads}: rotary turns pairs")
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "r n d"],
        source: Float[Tensor, "r m d"],
        positions: Float[Tensor, " n"],
        source_positions: Float[Tensor, " m"],
        source_mask: Bool[Tensor, "r m"] | None = None,
    ) -> Float[Tensor, "r n d"]:
        """Let each of n frames look at m source frames; positions in one unit; mask True where the source is real."""
        key, value = self.key_value(source).chunk(2, dim=-1)
        query = rotate(self._split(self.query(x)), positions)
        key = rotate(self._split(key), source_positions)
        mask = None if source_mask is None else source_mask[:, None, None, :]
        heads = F.scaled_dot_product_attention(query, key, self._split(value), attn_mask=mask)
        return self.output(heads.transpose(1, 2).flatten(2))

    def _split(self, x: Float[Tensor, "r n d"]) -> Float[Tensor, "r h n e"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """Gated feed-forward layer without biases: `W3 (silu(W1 x) * W2 x)`."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * hidden_width, bias=False)
        self.outer = nn.Linear(hidden_width, width, bias=False)

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        gate, value = self.inner(x).chunk(2, dim=-1)
        return self.outer(F.silu(gate) * value)


class RoFormerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, then cross-attention and feed-forward.

    Works on c columns of s frames a clip; all columns of a clip attend to the same tokens, as wide as the frames. Clips
    without tokens attend to themselves in the cross-attention, with the same weights (MeLoDy's unconditional pass,
    section 4.2).
    """

    def __init__(self, width: int, num_heads: int, feedforward_width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(keep_fp32(nn.RMSNorm(width, eps=1e-6)) for _ in range(4))
        self.self_attention = RotaryAttention(width, num_heads)
        self.cross_attention = RotaryAttention(width, num_heads)
        self.feedforwards = nn.ModuleList(SwiGLU(width, feedforward_width) for _ in range(2))

    def forward(
        self,
        x: Float[Tensor, "b c s d"],
        tokens: Float[Tensor, "kept n d"],
        token_mask: Bool[Tensor, "kept n"] | None,
        token_positions: Float[Tensor, " n"],
    ) -> Float[Tensor, "b c s d"]:
        """One layer; frames sit at 0 .. s - 1. `tokens` are those of the first `kept` clips; the others have none."""
        x = x + self._attend_to_self(self.self_attention, self.norms[0](x))
        x = x + self.feedforwards[0](self.norms[1](x))
        x = x + self._attend_to_tokens(self.norms[2](x), tokens, token_mask, token_positions)
        return x + self.feedforwards[1](self.norms[3](x))

    @staticmethod
    def _attend_to_self(attention: RotaryAttention, x: Float[Tensor, "b c s d"]) -> Float[Tensor, "b c s d"]:
        columns = x.flatten(0, 1)
        positions = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)
        return attention(columns, columns, positions, positions).view_as(x)

    def _attend_to_tokens(
        self,
        x: Float[Tensor, "b c s d"],
        tokens: Float[Tensor, "kept n d"],
        token_mask: Bool[Tensor, "kept n"] | None,
        token_positions: Float[Tensor, " n"],
    ) -> Float[Tensor, "b c s d"]:
        kept = len(tokens)
        results = []
        if kept:
            positions = torch.arange(x.shape[2], device=x.device, dtype=torch.float32).repeat(x.shape[1])
            # One long query a clip instead of one a column: the keys need no copies.
            queries = x[:kept].flatten(1, 2)
            attended = self.cross_attention(queries, tokens, positions, token_positions, token_mask)
            results.append(attended.view_as(x[:kept]))
        if kept < len(x):
            results.append(self._attend_to_self(self.cross_attention, x[kept:]))
        return torch.cat(results)
