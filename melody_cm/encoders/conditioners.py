"""What denoisers are told: semantic codes (MeLoDy, arXiv 2305.15719, section 4.2) or one text vector (MusicCM)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Conditioner, Conditioning, JointEmbedding, Tokenizer
from melody_cm.nn.mlp import MLP


class SemanticConditioner(Conditioner):
    """Semantic codes (b, 1, n) -> one vector a code, and their mean.

    Args:
        tokenizer: gives the codes of training batches; None in an exported pipeline.
        codebook_size: codes are 0 .. codebook_size - 1.
        width: d of the sequence (b, n, d) and of the pooled vector (b, d).

    Raises:
        ValueError: the tokenizer has another codebook.
    """

    def __init__(self, tokenizer: Tokenizer | None = None, codebook_size: int = 1024, width: int = 768) -> None:
        super().__init__()
        if tokenizer is not None and (tokenizer.num_codebooks, tokenizer.codebook_size) != (1, codebook_size):
            raise ValueError(
                f"the tokenizer has {tokenizer.num_codebooks} codebooks of {tokenizer.codebook_size} codes but the "
                f"conditioner takes 1 of {codebook_size}; set codebook_size to the tokenizer's"
            )
        self.tokenizer = tokenizer
        self.table = nn.Embedding(codebook_size, width)
        self.mlp = MLP(width, width)

    @torch.no_grad()
    def describe(self, batch: MusicBatch) -> Int[Tensor, "b 1 n"]:
        """The semantic codes of a batch.

        Raises:
            ValueError: there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("this conditioner was exported without its tokenizer; call embed with semantic codes")
        return self.tokenizer(batch)

    def embed(self, source: Int[Tensor, "b 1 n"]) -> Conditioning:
        """Sequence (b, n, d) and pooled (b, d) of semantic codes."""
        sequence = self.mlp(self.table(source[:, 0]))
        nothing_dropped = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        return Conditioning(sequence, sequence.mean(1), None, nothing_dropped, num_kept=len(source))


class TextConditioner(Conditioner):
    """A joint embedding (b, d), passed on as the pooled vector; nothing is learned.

    Args:
        joint_embedding: embeds the captions of training batches; None in an exported pipeline.
        width: d.
        source: train on embeddings of the captions, or of the audio (for music without captions).

    Raises:
        ValueError: the joint embedding has another width.
    """

    def __init__(
        self,
        joint_embedding: JointEmbedding | None = None,
        width: int = 128,
        source: Literal["text", "audio"] = "text",
    ) -> None:
        super().__init__()
        if joint_embedding is not None and joint_embedding.width != width:
            raise ValueError(
                f"width {width} must be the joint embedding's own, {joint_embedding.width}; set it, and the denoiser's "
                "condition_width, to that"
            )
        self.joint_embedding = joint_embedding
        self.width = width
        self.source = source
        self.uses_audio = source == "audio"

    @torch.no_grad()
    def describe(self, batch: MusicBatch) -> Float[Tensor, "b d"]:
        """The joint embeddings of a batch; zeros for clips without a caption.

        Raises:
            ValueError: there is no joint embedding.
        """
        known = batch.audio_embedding if self.source == "audio" else batch.text_embedding
        if known is not None:
            return known
        if self.joint_embedding is None:
            raise ValueError("this conditioner was exported without its joint embedding; call embed with embeddings")
        if self.source == "audio":
            return self.joint_embedding.embed_audio(batch.need_waveform())
        return self.joint_embedding.embed_captions(batch.captions)

    def embed(self, source: Float[Tensor, "b d"]) -> Conditioning:
        """The pooled vector (b, d); where it is zero, nothing was said, and the clip is unconditional.

        Raises:
            ValueError: embeddings of another width.
        """
        if source.shape[1] != self.width:
            raise ValueError(f"embeddings of width {source.shape[1]} given, but this conditioner takes {self.width}")
        return Conditioning(None, source, None, ~source.any(1))
