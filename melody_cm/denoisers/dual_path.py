"""The dual-path denoiser: attention between segments, recurrence within them. MeLoDy (arXiv 2305.15719), section 4.2.

A latent of l frames becomes s half-overlapping segments of k frames, both about sqrt(l) long. Inside the trunk a hidden
state is (b, k, s, d): coarse sequences run along s, fine ones along k, and neither needs a transposed copy.
"""

import collections
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from melody_cm.denoisers.token_condition import Tokens, check_input, place_tokens, tokens_first
from melody_cm.interfaces import Angle, Conditioning, Denoiser, FeatureNetwork
from melody_cm.nn import AngleEmbedding, BidirectionalSRU, FiLM, RoFormerLayer
from melody_cm.placement import keep_fp32
from melody_cm.signal.frames import num_segments, overlap_add, segment


def merge_strides(num_blocks: int) -> list[int]:
    """How many columns of a segment become one in the coarse path of each block: 1 at both ends, most in the middle."""
    return [2 ** (min(i, num_blocks + 1 - i) - 1) for i in range(1, num_blocks + 1)]


def merge_segments(hidden: Float[Tensor, "b k s d"], stride: int) -> Float[Tensor, "b merged s d"]:
    """Averages of 2 * stride neighbouring columns, one every `stride` columns: merged = ceil(k / stride).

    Zeros follow the last column, and count in the averages.
    """
    padding = -hidden.shape[1] % stride
    padded = F.pad(hidden, (0, 0, 0, 0, 0, padding))
    halves = padded if stride == 1 else padded.unflatten(1, (-1, stride)).mean(2)
    return torch.lerp(halves, F.pad(halves[:, 1:], (0, 0, 0, 0, 0, 1)), 0.5)


def repeat_segments(merged: Float[Tensor, "b merged s d"], stride: int, length: int) -> Float[Tensor, "b k s d"]:
    """Each merged column `stride` times, the first k = `length` of them."""
    return merged.unsqueeze(2).expand(-1, -1, stride, -1, -1).flatten(1, 2)[:, :length]


class DualPathBlock(nn.Module):
    """One coarse path, a RoFormer layer on every `stride` columns merged, and one fine path; a sum and a norm after
    each."""

    def __init__(self, width: int, num_heads: int, feedforward_width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.coarse = RoFormerLayer(width, num_heads, feedforward_width)
        self.coarse_norm = keep_fp32(nn.RMSNorm(width, eps=1e-6))
        self.fine = BidirectionalSRU(width)
        self.film = FiLM(width)
        self.fine_norm = keep_fp32(nn.RMSNorm(width, eps=1e-6))

    def forward(
        self, hidden: Float[Tensor, "b k s d"], modulator: Float[Tensor, "b s d"], tokens: Tokens
    ) -> Float[Tensor, "b k s d"]:
        merged = self.coarse(merge_segments(hidden, self.stride), *tokens)
        hidden = self.coarse_norm(hidden + repeat_segments(merged, self.stride, hidden.shape[1]))
        return self.fine_norm(hidden + self.film(self.fine(hidden), modulator))


class DualPathDenoiser(Denoiser, FeatureNetwork):
    """Velocity of a waveform latent (b, c, l), any l, given one token sequence and one vector a clip.

    `conditioning.sequence` is the embedded semantic tokens (b, n, width), `conditioning.pooled` their mean (b, width).
    Both are needed. A dropped clip attends to itself in place of its tokens, and its pooled vector is zero.

    Args:
        latent_channels: c.
        width: of the hidden state and of the conditioning.
        num_blocks: dual-path blocks.
        segment_length: frames in a segment (k), even; best near the square root of the latent's length.
        num_heads: of the coarse path's attention; twice that must divide `width`.
        feedforward_width: hidden width of the coarse path's feed-forward layers.
        angle_width: of the two vectors that span the noise levels.
        checkpointing: keep only what enters each block for the gradient, and compute the block anew then: a third more
            time for a fraction of the memory, the same numbers.

    Raises:
        ValueError: an odd segment length, or a latent, angle or condition of the wrong shape.
    """

    per_frame_angles = True

    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 768,
        num_blocks: int = 8,
        segment_length: int = 64,
        num_heads: int = 12,
        feedforward_width: int = 3360,
        angle_width: int = 256,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        if segment_length < 2 or segment_length % 2:
            raise ValueError(
                f"segment_length {segment_length} must be even and at least 2 frames: segments half overlap"
            )
        self.latent_channels, self.width, self.segment_length = latent_channels, width, segment_length
        self.angle_embedding = AngleEmbedding(angle_width, width)
        self.input = nn.Linear(latent_channels, width)
        self.input_norm = keep_fp32(nn.RMSNorm(width, eps=1e-6))
        strides = merge_strides(num_blocks)
        self.blocks = nn.ModuleList(DualPathBlock(width, num_heads, feedforward_width, stride) for stride in strides)
        self.feature_channels = [width] * ((num_blocks + 1) // 2)
        self.output_norm = keep_fp32(nn.RMSNorm(width, eps=1e-6))
        self.output = nn.Linear(width, latent_channels)
        # Close to zero, the best constant guess; not zero, so that every layer learns from the first step on.
        nn.init.normal_(self.output.weight, std=0.1 / width**0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        check_input(noisy_latent, angle, conditioning, self.latent_channels, self.width)
        # Clips with tokens first: then each layer splits the batch by slicing, without waiting for the device.
        order, kept = tokens_first(conditioning)
        states = self._hidden(noisy_latent[order], angle[order], conditioning, order[:kept], len(self.blocks))
        (hidden,) = collections.deque(states, maxlen=1)  # Without holding on to those before the last.
        hidden = self.output_norm(overlap_add(hidden.transpose(1, 2), noisy_latent.shape[-1]))
        return self.output(hidden).transpose(1, 2)[order.argsort()]

    def features(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> list[Float[Tensor, "b d l"]]:
        """The frames after each block of the first half, up to the coarsest paths; the second half is not run."""
        check_input(noisy_latent, angle, conditioning, self.latent_channels, self.width)
        order, kept = tokens_first(conditioning)
        count = len(self.feature_channels)
        states = self._hidden(noisy_latent[order], angle[order], conditioning, order[:kept], count)
        frames = [overlap_add(hidden.transpose(1, 2), noisy_latent.shape[-1]) for hidden in states]
        return [hidden.transpose(1, 2)[order.argsort()] for hidden in frames]

    def _hidden(
        self,
        latent: Float[Tensor, "b c l"],
        angle: Angle,
        conditioning: Conditioning,
        kept: Int[Tensor, " kept"],
        num_blocks: int,
    ) -> Iterator[Float[Tensor, "b k s d"]]:
        """The hidden state after each of the first `num_blocks` blocks; `kept` are the clips with tokens, first."""
        length = latent.shape[-1]
        count = num_segments(length, self.segment_length)
        angles = self.angle_embedding(angle if angle.ndim == 2 else angle[:, None]).expand(-1, length, -1)
        hidden = self.input_norm(self.input(latent.transpose(1, 2)) + angles)
        hidden = segment(hidden, self.segment_length).transpose(1, 2).contiguous()
        modulator = _modulator(angles, conditioning.pooled[kept], count)
        # Segment s is centred on frame s * k/2.
        tokens = place_tokens(conditioning, kept, length / (self.segment_length // 2))
        for block in self.blocks[:num_blocks]:
            hidden = self._run(block, hidden, modulator, tokens)
            yield hidden

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)  # A block draws nothing.
        return block(*inputs)


def _modulator(
    angles: Float[Tensor, "b l d"], pooled: Float[Tensor, "kept d"], count: int
) -> Float[Tensor, "b count d"]:
    """Angle embedding at each segment's frame, plus the pooled condition of the first clips; the others have none."""
    batch, length, _ = angles.shape
    frames = torch.arange(count, device=angles.device) * length // count
    pooled = F.pad(pooled.to(angles.dtype), (0, 0, 0, batch - len(pooled)))
    return angles[:, frames] + pooled[:, None]
