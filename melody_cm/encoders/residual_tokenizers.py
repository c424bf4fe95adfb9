"""Residual tokens: of joint embeddings (arXiv 2305.15719, B.3), and some levels of a codec (arXiv 2301.11325)."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders.kmeans import check_fitted, fit_centroids, nearest, share_left
from melody_cm.interfaces import Codec, JointEmbedding, Tokenizer
from melody_cm.signal.frames import pad_to_multiple


class ResidualKMeans(Tokenizer):
    """q codes a clip: each level is the nearest centroid of what the levels before it left of a joint embedding.

    Fitted greedily on audio embeddings, used for text embeddings as well.

    Args:
        embedding: of the clips that it is fitted on; None where only embeddings are quantized (an exported pipeline).
        num_codebooks: q.
        codebook_size: centroids a level.
        width: d of the embeddings.

    Raises:
        ValueError: the embedding has another width.
    """

    frame_rate = 0.0
    centroids: Tensor
    fitted: Tensor

    def __init__(
        self,
        embedding: JointEmbedding | None = None,
        num_codebooks: int = 12,
        codebook_size: int = 1024,
        width: int = 128,
    ) -> None:
        super().__init__()
        if embedding is not None and embedding.width != width:
            raise ValueError(f"width {width} must be the joint embedding's own, {embedding.width}; set it to that")
        self.embedding = embedding
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.register_buffer("centroids", torch.zeros(num_codebooks, codebook_size, width))
        self.register_buffer("fitted", torch.tensor(False))

    def features(self, batch: MusicBatch) -> Float[Tensor, "b 1 d"]:
        """The joint embeddings of the clips' audio, cached or computed now, without gradient.

        Raises:
            ValueError: neither the batch nor this tokenizer has an embedding.
        """
        if batch.audio_embedding is not None:
            return batch.audio_embedding[:, None]
        with torch.no_grad():
            return self._need_embedding().embed_audio(batch.need_waveform())[:, None]

    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "b 1 d"]:
        """The joint embeddings of texts, without gradient: what a prompt's codes are made from.

        Raises:
            ValueError: this tokenizer has no embedding, or a text is empty.
        """
        with torch.no_grad():
            return self._need_embedding().embed_text(texts)[:, None]

    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        residual = features.detach().cpu().float()
        for level in range(self.num_codebooks):
            centroids = fit_centroids(residual, self.codebook_size, seed + level)
            residual = residual - centroids[nearest(residual, centroids)]
            self.centroids[level].copy_(centroids)
        self.fitted.fill_(True)

    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        check_fitted(self)
        residual, codes = features.float(), []
        for centroids in self.centroids:
            codes.append(nearest(residual, centroids))
            residual = residual - centroids[codes[-1]]
        return torch.stack(codes, dim=1)

    def dequantize(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b l d"]:
        check_fitted(self)
        return torch.stack([centroids[codes[:, q]] for q, centroids in enumerate(self.centroids)]).sum(0)

    def quantization_error(self, features: Float[Tensor, "n d"]) -> list[float]:
        """The share of the vectors' variance that is left after each level; falls on the vectors it was fitted on."""
        codes = self.quantize(features[None])[0]
        residual, errors = features.float(), []
        for centroids, code in zip(self.centroids, codes, strict=True):
            residual = residual - centroids[code]
            errors.append(share_left(residual, features))
        return errors

    def _need_embedding(self) -> JointEmbedding:
        if self.embedding is None:
            raise ValueError("this tokenizer was exported without its joint embedding; quantize embeddings instead")
        return self.embedding


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
        self.frame_samples = round(codec.sample_rate / codec.frame_rate)

    def train(self, mode: bool = True) -> "CodecTokenizer":
        """A codec that does not learn stays as it is used."""
        return super().train(False)

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
        """Refused with a ValueError: a codec learns in its own stage."""
        raise ValueError("a codec's codebooks are trained with it, not fitted; train its own recipe")

    @torch.no_grad()
    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        return self.codec.encode_codes(rearrange(features, "b l d -> b 1 (l d)"))[:, self.levels]

    def dequantize(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b l d"]:
        """Refused with a ValueError: some levels are no sound."""
        raise ValueError("levels of a codec alone make no waveform; put all levels together and use the codec")
