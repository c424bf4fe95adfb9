"""What a data loader yields and a training step receives: one batch of captioned music."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from melody_cm.randomness import Draws


@dataclass
class MusicBatch:
    """A batch of b clips; every stage of every system trains on this and nothing else.

    What frozen encoders made of the music before (`melody-cm data encode`) comes in the last five fields.

    Attributes:
        item: (b,) int64, the clip's index in its data set; with `epoch` the key of all randomness.
        epoch: (b,) int64, how often the clip has been seen before; -1 in evaluation.
        waveform: (b, 1, t) fp32 in [-1, 1], mono, at the data module's sample rate (Hz); None where the stage needs
            nothing but what was encoded before.
        frame_mask: (b, t) bool, False where a clip shorter than t samples was padded with zeros.
        captions: b texts.
        latent_mean, latent_std: (b, c, *axes) fp32, the autoencoder's posterior.
        codes: (b, q, l) int64, the tokens of each tokenizer and of each codec, by the stage that made it; within
            the step of a language model also by its streams.
        audio_embedding, text_embedding: (b, d) fp32, joint embeddings of the waveforms and of the captions.
    """

    item: Tensor
    epoch: Tensor
    waveform: Tensor | None
    frame_mask: Tensor
    captions: list[str]
    latent_mean: Tensor | None = None
    latent_std: Tensor | None = None
    codes: dict[str, Tensor] = field(default_factory=dict)
    audio_embedding: Tensor | None = None
    text_embedding: Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def draws(self, seed: int) -> Draws:
        """The random numbers that belong to this batch under `seed`."""
        return Draws(seed, self.epoch.tolist(), self.item.tolist())

    def need_waveform(self) -> Tensor:
        """The waveform, for what cannot do without.

        Raises:
            ValueError: the batch came from the encoded cache, without sound.
        """
        if self.waveform is None:
            raise ValueError(
                "this batch holds no waveform, only what `melody-cm data encode` kept; the part that asks for one "
                "was not encoded: encode again with --again, or delete the run's folder `encoded`"
            )
        return self.waveform

    def to(self, device: torch.device | str, **kwargs: Any) -> "MusicBatch":
        """The same batch on `device` (Lightning calls this), but for `item` and `epoch`: the CPU draws by them, and so
        would have to wait for them. From pinned memory nothing waits for the copies either."""
        moved = self._with_tensors(lambda x: x.to(device, **{"non_blocking": True} | kwargs))
        return replace(moved, item=self.item, epoch=self.epoch)

    def pin_memory(self) -> "MusicBatch":
        """The same batch in page-locked memory, from where it reaches a GPU faster (the data loader calls this)."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "MusicBatch":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {name: change(x) for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **changed, codes={stage: change(x) for stage, x in self.codes.items()})
