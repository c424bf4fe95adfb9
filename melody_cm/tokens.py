"""The seams of what makes and models codes; axes as in `interfaces.py`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.network import Network


class Codec(Network, ABC):
    """Waveform <-> codes of a residual quantizer: q codebooks, coarse to fine, `codebook_size` entries each.

    `sample_rate`, `frame_rate` in Hz. What quantizing the first n codebooks gives does not depend on the others.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int

    @abstractmethod
    def encode_codes(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b q l"]:
        """The codes of waveforms, l = ceil(t * frame_rate / sample_rate)."""

    @abstractmethod
    def decode_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b 1 t"]:
        """The waveform of codes, t = l * sample_rate / frame_rate."""


class SemanticEncoder(Network, ABC):
    """Waveform -> hidden states that semantic tokens are made of.

    `sample_rate`, `frame_rate` in Hz; `width` = d; `num_layers` blocks, so that layer 0 is what the first one is given.
    """

    sample_rate: int
    frame_rate: float
    width: int
    num_layers: int

    @abstractmethod
    def hidden_states(self, waveform: Float[Tensor, "b 1 t"], layer: int) -> Float[Tensor, "b l d"]:
        """What block number `layer` gives, l = ceil(t * frame_rate / sample_rate)."""


class Tokenizer(Network, ABC):
    """Something continuous -> codes. `num_codebooks` q, `codebook_size`, `frame_rate` in Hz (0 for one frame a clip).

    Fitted, not trained: `features` turns a batch's input into the vectors that `fit` clusters.
    """

    num_codebooks: int
    codebook_size: int
    frame_rate: float

    @abstractmethod
    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """The vectors of a batch that are to be quantized, in order of time."""

    @abstractmethod
    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        """Choose the codebooks from n feature vectors; deterministic in `seed`."""

    @abstractmethod
    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        """The codes of feature vectors."""

    @abstractmethod
    def dequantize(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b l d"]:
        """The feature vectors that the codes stand for."""

    def forward(self, batch: MusicBatch) -> Int[Tensor, "b q l"]:
        """The codes of a batch: those that this stage encoded before, else quantized now."""
        known = None if self.stage is None else batch.codes.get(self.stage)
        return self.quantize(self.features(batch)) if known is None else known


class TokenLM(Network, ABC):
    """A causal language model over the streams of a token layout (language_models/token_layout.py).

    `stream_sizes`: (number of codebooks, codebook size) by stream; `frame_rates`: frames a second (Hz) by stream, 0 for
    one frame a clip, None where the layout does not say; `max_frames` of the last stream fit into one sequence.
    """

    stream_sizes: Mapping[str, tuple[int, int]]
    frame_rates: Mapping[str, float | None]
    max_frames: int

    @abstractmethod
    def logits(self, streams: Mapping[str, Int[Tensor, "b q l"]]) -> Tensor:
        """Next-token logits (b, m, vocabulary) of the last stream's m tokens, given everything before each."""

    @abstractmethod
    def extend(
        self,
        prompt: Mapping[str, Int[Tensor, "b _ _"]],
        codes: Int[Tensor, "_ q _"],
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Int[Tensor, "b q l"]:
        """The `length` frames of the last stream that follow `codes`, row i drawn with generator i alone.

        At most the last `max_frames - length` frames of `codes` are looked at; top_k = 0 keeps all. A ValueError for a
        length beyond `max_frames`.
        """

    def sample(
        self,
        prompt: Mapping[str, Int[Tensor, "b _ _"]],
        length: int,
        generators: Sequence[torch.Generator],
        *settings: Any,
        **named: Any,
    ) -> Int[Tensor, "b q l"]:
        """The first `length` frames of the last stream: `extend` from nothing, with its other settings."""
        num_codebooks, _ = list(self.stream_sizes.values())[-1]
        device = next(self.parameters()).device
        nothing = torch.empty(len(generators), num_codebooks, 0, dtype=torch.long, device=device)
        return self.extend(prompt, nothing, length, generators, *settings, **named)
