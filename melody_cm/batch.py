"""What a data loader yields and a training step receives: one batch of captioned music."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from melody_cm.randomness import Draws


@dataclass
class MusicBatch:
    """A batch of b clips; every stage of every system trains on this and nothing else.

    Attributes:
        item: (b,) int64, the clip's index in its data set; with `epoch` the key of all randomness.
        epoch: (b,) int64, how often the clip has been seen before; -1 in evaluation.
        waveform: (b, 1, t) fp32 in [-1, 1], mono, at the data module's sample rate (Hz).
        frame_mask: (b, t) bool, False where a clip shorter than t samples was padded with zeros.
        captions: b texts.
        latent_mean, latent_std: (b, c, *axes) fp32, the autoencoder's posterior if it was cached.
        codes: (b, q, l) int64, cached tokens.
        embedding: (b, d) fp32, cached joint embedding.
    """

    item: Tensor
    epoch: Tensor
    waveform: Tensor
    frame_mask: Tensor
    captions: list[str]
    latent_mean: Tensor | None = None
    latent_std: Tensor | None = None
    codes: Tensor | None = None
    embedding: Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def draws(self, seed: int) -> Draws:
        """The random numbers that belong to this batch under `seed`."""
        return Draws(seed, self.epoch.tolist(), self.item.tolist())

    def to(self, device: torch.device | str, **kwargs: Any) -> "MusicBatch":
        """The same batch with all tensors on `device` (Lightning calls this)."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: x.to(device, **kwargs) for name, x in tensors.items() if isinstance(x, Tensor)}
        return replace(self, **moved)
