"""What the parts of `interfaces.py` hand to each other; axes as there."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Angle = Float[Tensor, " b"] | Float[Tensor, "b l"]


@dataclass
class Conditioning:
    """What a denoiser may know about the music it is asked for.

    Attributes:
        sequence: (b, n, d) a sequence to attend to, or None.
        pooled: (b, d) one vector a clip, or None.
        mask: (b, n) True where `sequence` is real, or None if all of it is.
        dropped: (b,) True where the clip is to be treated as unconditional: a denoiser must then give a result that
            does not depend on `sequence` or `pooled` at all.
        num_kept: how many clips are not dropped, where the CPU knows without asking the GPU; else None.
    """

    sequence: Float[Tensor, "b n d"] | None
    pooled: Float[Tensor, "b e"] | None
    mask: Bool[Tensor, "b n"] | None
    dropped: Bool[Tensor, " b"]
    num_kept: int | None = None

    def drop(self, rows: Bool[Tensor, " b"]) -> "Conditioning":
        """The same conditioning, unconditional in `rows` too."""
        known = self.num_kept == len(self.dropped) and rows.device.type == "cpu"
        num_kept = len(rows) - int(rows.sum()) if known else None
        dropped = self.dropped | rows.to(self.dropped.device, non_blocking=True)
        return replace(self, dropped=dropped, num_kept=num_kept)

    def drop_all(self) -> "Conditioning":
        """The same conditioning, unconditional in all rows."""
        return replace(self, dropped=torch.ones_like(self.dropped), num_kept=0)

    def concat(self, other: "Conditioning") -> "Conditioning":
        """Both along the batch axis, for one network call on both."""

        def both(mine: Tensor | None, others: Tensor | None) -> Tensor | None:
            return None if mine is None or others is None else torch.cat([mine, others])

        return Conditioning(
            both(self.sequence, other.sequence),
            both(self.pooled, other.pooled),
            both(self.mask, other.mask),
            torch.cat([self.dropped, other.dropped]),
            None if self.num_kept is None or other.num_kept is None else self.num_kept + other.num_kept,
        )


class Known(NamedTuple):
    """Frames of a latent that are given and must not change.

    latent: (b, c, *axes) clean; frames: (b, l) True where the latent is known.
    """

    latent: Tensor
    frames: Tensor


class Losses(NamedTuple):
    """What an objective returns: scalar `terms` by name, already weighted, whose sum is the loss; the clean latent
    (b, c, *axes) that the network predicted; and `from_noise` (b,), True where it was given noise alone, or None if it
    never was."""

    terms: dict[str, Tensor]
    prediction: Tensor
    from_noise: Tensor | None = None


class Reconstruction(NamedTuple):
    """An autoencoder's training pass: `target` and `prediction` of one shape, in the domain where the autoencoder is
    judged ((b, 1, t) waveforms or (b, l, f) log-mels), and `kl` (b,), the KL divergence of each clip's posterior from
    N(0, I), summed over latent channels and averaged over latent positions."""

    target: Tensor
    prediction: Tensor
    kl: Float[Tensor, " b"]
