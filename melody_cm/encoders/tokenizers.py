"""Tokenizers made by k-means: semantic tokens of audio, residual tokens of joint embeddings.

MeLoDy, arXiv 2305.15719, section 3 and appendix B.2-B.3. Log-mel frames stand in for self-supervised features.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders.clustering import fit_centroids, nearest, share_left
from melody_cm.encoders.kmeans_tokenizer import KMeansTokenizer, check_fitted
from melody_cm.interfaces import JointEmbedding, Tokenizer
from melody_cm.signal.frames import pad_to_multiple
from melody_cm.signal.mel import MelFrontEnd, MelSettings


class LogMelKMeans(KMeansTokenizer):
    """One code a frame: the nearest of k centroids of z-normalized log-mel frames.

    Nothing is resampled: waveforms must be at `sample_rate`. A clip of t samples has ceil(t * frame_rate / sample_rate)
    frames; each is the mean of the log-mels of `mels_per_frame` shorter hops.

    Args:
        sample_rate: Hz.
        frame_rate: codes a second, Hz.
        codebook_size: k.
        num_mels: bins of the log-mel.
        n_fft: its window, samples.
        mels_per_frame: log-mel frames averaged into one.

    Raises:
        ValueError: the sample rate is no whole multiple of frame_rate * mels_per_frame.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        frame_rate: float = 25.0,
        codebook_size: int = 1024,
        num_mels: int = 64,
        n_fft: int = 1024,
        mels_per_frame: int = 4,
    ) -> None:
        super().__init__(codebook_size, num_mels)
        hop_length = sample_rate / (frame_rate * mels_per_frame)
        if hop_length != int(hop_length):
            raise ValueError(
                f"sample_rate {sample_rate} Hz is no whole multiple of frame_rate x mels_per_frame = "
                f"{frame_rate * mels_per_frame:g} Hz; change mels_per_frame or the sample rate"
            )
        self.sample_rate, self.frame_rate, self.mels_per_frame = sample_rate, frame_rate, mels_per_frame
        self.mel = MelFrontEnd(
            MelSettings(sample_rate, n_fft, int(hop_length), num_mels, f_min=0.0, f_max=sample_rate / 2)
        )

    def features(self, batch: MusicBatch) -> Float[Tensor, "b l d"]:
        """Log-mels averaged to the frame rate, natural logarithm."""
        return self._log_mel(batch.need_waveform())

    def encode(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b 1 l"]:
        """The codes of waveforms at `sample_rate`."""
        return self.quantize(self._log_mel(waveform))

    def _log_mel(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        samples_per_frame = self.mel.settings.hop_length * self.mels_per_frame
        mel = self.mel(pad_to_multiple(waveform, samples_per_frame))
        return rearrange(mel, "b (l p) f -> b l p f", p=self.mels_per_frame).mean(2)


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
