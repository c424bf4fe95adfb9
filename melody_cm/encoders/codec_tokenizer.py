"""Some levels of a codec as a tokenizer: MusicLM's coarse and fine codes (arXiv 2301.11325, section 3.2)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Codec, Tokenizer
from melody_cm.signal.frames import pad_to_multiple


class CodecTokenizer(Tokenizer):
    """Levels `first` to `last` of a codec's residual codes, with the codec's sample rate (Hz) and frame rate (Hz).

    Its feature vectors are the waveform itself, cut into frames.

    Args:
        codec: finished; it does not learn here.
        first, last: levels counted from 0, both included: 0 and 3 are MusicLM's coarse codes, 4 and 11 its fine ones.

    Raises:
        ValueError: levels that the codec does not have.
    """

    def __init__(self, codec: Codec, first: int, last: int) -> None:
        super().__init__()
        if not 0 <= first <= last < codec.num_codebooks:
            raise ValueError(
                f"levels {first} to {last} asked for, but the codec has {codec.num_codebooks}, "
                f"0 to {codec.num_codebooks - 1}; set first and last within them"
            )
        self.codec = codec.requires_grad_(False).eval()
        self.levels = slice(first, last + 1)
        self.num_codebooks, self.codebook_size = last + 1 - first, codec.codebook_size
        self.sample_rate, self.frame_rate = codec.sample_rate, codec.frame_rate

    def train(self, mode: bool = True) -> "CodecTokenizer":
        """A codec that does not learn stays as it is used."""
        return super().train(False)

    @property
    def frame_samples(self) -> int:
        """Samples of the waveform for each frame."""
        return round(self.sample_rate / self.frame_rate)

    def forward(self, batch: MusicBatch) -> Int[Tensor, "b q l"]:
        """The codes of a batch; those of all levels that were encoded before are used, else they are made now.

        A finished stage's codes stay with the batch, so that two tokenizers of one codec run it once.
        """
        if not self.codec.frozen:
            return super().forward(batch)
        if self.codec.stage not in batch.codes:
            batch.codes[self.codec.stage] = self.codec.encode_codes(batch.need_waveform())
        return batch.codes[self.codec.stage][:, self.levels]

    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """The waveforms in frames; the last one is filled up with zeros."""
        waveform = pad_to_multiple(batch.need_waveform(), self.frame_samples)
        return rearrange(waveform, "b 1 (l d) -> b l d", d=self.frame_samples)

    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        """A codec learns in its own stage.

        Raises:
            ValueError: always.
        """
        raise ValueError("a codec's codebooks are trained with it, not fitted; train its own recipe")

    @torch.no_grad()
    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        return self.codec.encode_codes(rearrange(features, "b l d -> b 1 (l d)"))[:, self.levels]

    @torch.no_grad()
    def dequantize(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b l d"]:
        """The waveforms in frames.

        Raises:
            ValueError: these are not all levels of the codec.
        """
        if self.num_codebooks != self.codec.num_codebooks:
            raise ValueError(
                f"{self.num_codebooks} of the codec's {self.codec.num_codebooks} levels make no waveform; "
                "put all levels together and use the codec"
            )
        return rearrange(self.codec.decode_codes(codes), "b 1 (l d) -> b l d", d=self.frame_samples)
