"""What the denoisers of waveform latents are told, checked and laid out: tokens, their mean, angles.

Shared by the dual-path network and the U-Nets of its ablation (MeLoDy, arXiv 2305.15719, appendix E), so that nothing
but the trunk differs between them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from melody_cm.interfaces import Angle, Conditioning


class Tokens(NamedTuple):
    """What rotary attention looks at: the tokens of the first clips, their mask, their positions in query units."""

    sequence: Float[Tensor, "kept n d"]
    mask: Bool[Tensor, "kept n"] | None
    positions: Float[Tensor, " n"]


def place_tokens(conditioning: Conditioning, kept: Int[Tensor, " kept"], duration: float) -> Tokens:
    """The kept clips' tokens; token j of n is centred at (j + 0.5) / n of the clip.

    Args:
        conditioning, kept: the tokens of all clips, and the clips that keep theirs.
        duration: of the clip, in steps between two queries.
    """
    sequence = conditioning.sequence[kept]
    length = sequence.shape[1]
    positions = (torch.arange(length, device=sequence.device) + 0.5) * (duration / length)
    return Tokens(sequence, None if conditioning.mask is None else conditioning.mask[kept], positions)


def tokens_first(conditioning: Conditioning) -> tuple[Int[Tensor, " b"], int]:
    """An order of the clips in which those with tokens come first, and how many those are."""
    dropped, kept = conditioning.dropped, conditioning.num_kept
    return dropped.int().argsort(stable=True), len(dropped) - int(dropped.sum()) if kept is None else kept


def angle_channels(angle: Angle, length: int) -> Float[Tensor, "b 2 l"]:
    """Sine and cosine of each frame's angle, as channels beside the latent's."""
    frames = angle[:, None, None] if angle.ndim == 1 else angle[:, None]
    return torch.cat([frames.sin(), frames.cos()], dim=1).expand(-1, -1, length)


def check_input(
    latent: Tensor, angle: Tensor, conditioning: Conditioning, latent_channels: int, condition_width: int
) -> None:
    """Refuse a latent (b, c, l), angle or condition that does not fit the network or the others.

    Raises:
        ValueError: with both numbers.
    """
    if latent.ndim != 3 or latent.shape[1] != latent_channels:
        raise ValueError(
            f"a latent of shape {tuple(latent.shape)} cannot be denoised: this network takes (b, c, l) with "
            f"c = {latent_channels} channels"
        )
    if angle.shape not in (latent.shape[:1], latent.shape[::2]):
        raise ValueError(
            f"angles of shape {tuple(angle.shape)} do not fit a latent of {latent.shape[0]} clips and "
            f"{latent.shape[2]} frames: give one a clip (b,) or one a frame (b, l)"
        )
    if latent.shape[2] < 1:
        raise ValueError(f"a latent of {latent.shape[2]} frames cannot be denoised: give at least 1")
    for name, ndim in (("sequence", 3), ("pooled", 2)):
        _check_condition(getattr(conditioning, name), name, ndim, len(latent), condition_width)
    for name, expected in (("mask", conditioning.sequence.shape[:2]), ("dropped", latent.shape[:1])):
        given = getattr(conditioning, name)
        if given is not None and given.shape != expected:
            raise ValueError(f"conditioning.{name} of shape {tuple(given.shape)} does not fit, give {tuple(expected)}")


def _check_condition(condition: Tensor | None, name: str, ndim: int, batch: int, width: int) -> None:
    if condition is None:
        raise ValueError(f"conditioning.{name} is None: this denoiser needs a token sequence and its mean")
    if condition.ndim != ndim or 0 in condition.shape:
        raise ValueError(
            f"conditioning.{name} of shape {tuple(condition.shape)} needs {ndim} axes and at least 1 on each: "
            "sequence is (b, n, d), pooled (b, d)"
        )
    if condition.shape[0] != batch or condition.shape[-1] != width:
        raise ValueError(
            f"conditioning.{name} of {condition.shape[0]} clips and width {condition.shape[-1]} does not fit "
            f"{batch} clips and width {width}: make the conditioner as wide as the denoiser takes"
        )
