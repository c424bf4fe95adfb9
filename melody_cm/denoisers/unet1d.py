"""The one-dimensional U-Net of MeLoDy's ablation: convolutions along time. MeLoDy (arXiv 2305.15719), appendix E.

The paper gives the body (that of Mousai) and about 300 M parameters, no shapes; these are ours.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.denoisers.token_condition import Tokens, angle_channels, check_input, place_tokens, tokens_first
from melody_cm.interfaces import Angle, Conditioning, Denoiser
from melody_cm.nn import AngleEmbedding, RoFormerLayer
from melody_cm.signal.frames import pad_to_multiple

NORM_GROUPS = 8  # At most; as many as divide the channels.


class ResidualBlock(nn.Module):
    """Two convolutions of three frames, scaled and shifted between by a modulator (FiLM), added to their input."""

    def __init__(self, in_channels: int, channels: int, modulator_width: int) -> None:
        super().__init__()
        self.input_norm = nn.GroupNorm(math.gcd(NORM_GROUPS, in_channels), in_channels)
        self.input = nn.Conv1d(in_channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels)
        self.modulation = nn.Linear(modulator_width, 2 * channels)
        self.output = nn.Conv1d(channels, channels, 3, padding=1)
        self.skip = nn.Conv1d(in_channels, channels, 1) if in_channels != channels else nn.Identity()

    def forward(self, x: Float[Tensor, "b i l"], modulator: Float[Tensor, "b m"]) -> Float[Tensor, "b c l"]:
        hidden = self.norm(self.input(F.silu(self.input_norm(x))))
        scale, shift = self.modulation(modulator)[..., None].chunk(2, dim=1)
        return self.skip(x) + self.output(F.silu(hidden * (1 + scale) + shift))


class TokenAttention(nn.Module):
    """The dual-path network's RoFormer layer on the frames of one level, between projections to the tokens' width; one
    frame stands for `stride` latent frames."""

    def __init__(self, channels: int, width: int, num_heads: int, feedforward_width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.input = nn.Linear(channels, width)
        self.layer = RoFormerLayer(width, num_heads, feedforward_width)
        self.output = nn.Linear(width, channels)

    def forward(self, x: Float[Tensor, "b c l"], tokens: Tokens) -> Float[Tensor, "b c l"]:
        """The same shape; the tokens' positions are in latent frames."""
        frames = self.input(x.transpose(1, 2))[:, None]
        attended = self.layer(frames, tokens.sequence, tokens.mask, tokens.positions / self.stride)[:, 0]
        return x + self.output(attended).transpose(1, 2)


class BlockStack(nn.Module):
    """Residual blocks, whose modulator has the given width, then attention or nothing."""

    def __init__(
        self, in_channels: int, channels: int, num_blocks: int, width: int, attention: TokenAttention | None
    ) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * (num_blocks - 1)
        self.blocks = nn.ModuleList(ResidualBlock(each, channels, width) for each in widths)
        self.attention = attention

    def forward(
        self, x: Float[Tensor, "b i l"], modulator: Float[Tensor, "b m"], tokens: Tokens
    ) -> Float[Tensor, "b c l"]:
        for block in self.blocks:
            x = block(x, modulator)
        return x if self.attention is None else self.attention(x, tokens)


class Level(nn.Module):
    """Down, a stage, everything below it, a second stage on both, and up again; the lowest level has one stage.

    Args:
        outer_channels: of input and output.
        channels: of this level.
        factor: how many frames become one.
        before, after: its stages, `after` taking twice the channels.
        inner: the level below.
    """

    def __init__(
        self,
        outer_channels: int,
        channels: int,
        factor: int,
        before: BlockStack,
        inner: "Level | None",
        after: BlockStack | None,
    ) -> None:
        super().__init__()
        self.factor = factor
        reach = max(1, factor // 2)
        self.down = nn.Conv1d(outer_channels, channels, 2 * reach + 1, stride=factor, padding=reach)
        self.before, self.inner, self.after = before, inner, after
        self.up = nn.Conv1d(channels, outer_channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b o l"], modulator: Float[Tensor, "b m"], tokens: Tokens
    ) -> Float[Tensor, "b o l"]:
        """The same shape; l must be divisible by the factors of this level and all below."""
        hidden = self.before(self.down(x), modulator, tokens)
        if self.inner is not None:
            below = self.inner(hidden, modulator, tokens)
            hidden = self.after(torch.cat([hidden, below], dim=1), modulator, tokens)
        return self.up(hidden.repeat_interleave(self.factor, dim=2))


class UNet1D(Denoiser):
    """Velocity of a waveform latent (b, c, l), any l, given one token sequence and one vector a clip.

    `conditioning.sequence` is the embedded semantic tokens (b, n, condition_width), attended to on the two lowest
    levels; `conditioning.pooled` their mean (b, condition_width), which with the clip's mean angle embedding modulates
    every residual block. Each frame's own angle comes in as two channels, sine and cosine. A dropped clip attends to
    itself in place of its tokens, and its pooled vector is zero, as in the dual-path network.

    Args:
        latent_channels: c.
        condition_width: of tokens and pooled vector.
        channels: of each level, shallow to deep.
        factors: how many frames of the level above become one, e.g. 1, 2, 2, 2, 2; the latent is padded with zeros to
            a multiple of their product.
        num_blocks: residual blocks a stage; a level has one stage on the way down and one on the way up.
        num_heads: of the attention; twice that must divide `condition_width`.
        feedforward_width: hidden width of the attention layers' feed-forward layers.
        angle_width: of the two vectors that span the noise levels.

    Raises:
        ValueError: not one positive factor a level, or a latent, angle or condition of the wrong shape.
    """

    per_frame_angles = True

    def __init__(
        self,
        latent_channels: int,
        condition_width: int,
        channels: list[int],
        factors: list[int],
        num_blocks: int,
        num_heads: int,
        feedforward_width: int,
        angle_width: int,
    ) -> None:
        super().__init__()
        if not channels or len(channels) != len(factors) or min(factors) < 1:
            raise ValueError(f"channels {channels} and factors {factors}: give each level one of both, factors from 1")
        self.latent_channels, self.condition_width = latent_channels, condition_width
        self.downsampling = math.prod(factors)
        self.angle_embedding = AngleEmbedding(angle_width, condition_width)
        self.input = nn.Conv1d(latent_channels + 2, channels[0], 3, padding=1)
        self.levels = _levels(channels, factors, num_blocks, (condition_width, num_heads, feedforward_width))
        self.output_norm = nn.GroupNorm(math.gcd(NORM_GROUPS, channels[0]), channels[0])
        self.output = nn.Conv1d(channels[0], latent_channels, 3, padding=1)
        # Close to zero, the best constant guess; not zero, so that every layer learns from the first step on.
        nn.init.normal_(self.output.weight, std=0.1 / (3 * channels[0]) ** 0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        check_input(noisy_latent, angle, conditioning, self.latent_channels, self.condition_width)
        order, kept = tokens_first(conditioning)
        length = noisy_latent.shape[-1]
        tokens = place_tokens(conditioning, order[:kept], float(length))
        modulator = self._modulator(angle, conditioning)[order]
        channels = [noisy_latent, angle_channels(angle, length).to(noisy_latent.dtype)]
        hidden = self.input(pad_to_multiple(torch.cat(channels, dim=1)[order], self.downsampling))
        hidden = self.output_norm(hidden + self.levels(hidden, modulator, tokens))
        return self.output(F.silu(hidden))[..., :length][order.argsort()]

    def _modulator(self, angle: Angle, conditioning: Conditioning) -> Float[Tensor, "b d"]:
        """The embedding of the mean point on the angles' arc, plus the pooled condition; dropped clips have none."""
        point = self.angle_embedding.slerp(angle if angle.ndim == 2 else angle[:, None]).mean(1)
        embedded = self.angle_embedding.mlp(point)
        return embedded + torch.where(conditioning.dropped[:, None], 0.0, conditioning.pooled).to(embedded.dtype)


def _levels(channels: list[int], factors: list[int], num_blocks: int, attention: tuple[int, int, int]) -> Level:
    """The levels inside each other; `attention` is width, heads and feed-forward width, on the two lowest."""
    inner: Level | None = None
    for i in reversed(range(len(channels))):
        width, stride = channels[i], math.prod(factors[: i + 1])
        attend = [TokenAttention(width, *attention, stride) if i >= len(channels) - 2 else None for _ in range(2)]
        before = BlockStack(width, width, num_blocks, attention[0], attend[0])
        after = None if inner is None else BlockStack(2 * width, width, num_blocks, attention[0], attend[1])
        inner = Level(channels[max(i - 1, 0)], width, factors[i], before, inner, after)
    return inner
