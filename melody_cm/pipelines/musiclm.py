"""MusicLM: three language models, one after another, write a neural codec's codes (arXiv 2301.11325, section 3)."""

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.interfaces import Codec, JointEmbedding, Tokenizer, TokenLM
from melody_cm.language_models import longest_hop, sample_long
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Batch

STREAMS = {
    "semantic_lm": ("prompt", "semantic"),
    "coarse_lm": ("prompt", "semantic", "coarse"),
    "fine_lm": ("coarse", "fine"),
}
LONGEST_SECONDS = 300.0  # The codec decodes it in one piece, which takes memory for all of it.


class MusicLM(PretrainedPipeline):
    """Prompts -> prompt codes -> semantic codes -> coarse codes -> fine codes -> waveform.

    ============  ============================================
    role          MusicLM baseline
    ============  ============================================
    prompt        `JointEmbedding` -> RVQ tokens
    planner       semantic LM (the same checkpoint as MeLoDy)
    conditioning  -
    generator     coarse LM, fine LM (`TokenLM`)
    noise levels  -
    sampler       token decoding
    long music    LM sliding window
    decoder       RVQ `Codec`
    ============  ============================================

    A model whose window is shorter than the music (10 s for coarse and 3 s for fine codes in the paper) makes its codes
    window by window, and so does the semantic model beyond `max_seconds`. There are no sampling steps and no guidance:
    every token is one network call.

    Args:
        joint_tokenizer: quantizes one joint embedding a clip.
        semantic_lm: its streams are "prompt", "semantic".
        coarse_lm: its streams are "prompt", "semantic", "coarse", the latter two with frame rates (Hz).
        fine_lm: its streams are "coarse", "fine", both with the codec's frame rate (Hz).
        codec: its first levels are the coarse codes, the others the fine ones.
        max_seconds: the length that the semantic model was trained on.
        context: share of a window that is known when it moves on.
        semantic_temperature, coarse_temperature, fine_temperature: of token sampling.

    Raises:
        ValueError: parts whose codes or frame rates do not fit each other.
    """

    num_steps = 1
    guidance_scale = 1.0

    def __init__(
        self,
        joint_embedding: JointEmbedding,
        joint_tokenizer: Tokenizer,
        semantic_lm: TokenLM,
        coarse_lm: TokenLM,
        fine_lm: TokenLM,
        codec: Codec,
        max_seconds: float = 10.0,
        context: float = 0.5,
        semantic_temperature: float = 1.0,
        coarse_temperature: float = 0.95,
        fine_temperature: float = 0.4,
    ) -> None:
        if not 0 <= context < 1:
            raise ValueError(f"context is {context:g}, but must be a share of the window from 0 up to below 1")
        self._keep(locals())
        _check_streams(semantic_lm=semantic_lm, coarse_lm=coarse_lm, fine_lm=fine_lm)
        _check_parts(joint_tokenizer, semantic_lm, coarse_lm, fine_lm, codec)

    @property
    def sample_rate(self) -> int:  # type: ignore[override]
        """Hz, the codec's own."""
        return self.codec.sample_rate

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS

    def make(self, batch: Batch) -> Float[Tensor, "b 1 t"]:
        samples = round(batch.seconds * self.sample_rate)
        frames = math.ceil(samples * Fraction(self.codec.frame_rate) / self.sample_rate)
        semantic_rate = self.coarse_lm.frame_rates["semantic"] or 0.0  # `_check_parts` refused one without a rate.
        semantic_frames = math.ceil(frames * Fraction(semantic_rate) / Fraction(self.codec.frame_rate))
        with batch.part("planner"):
            given = {"prompt": self.joint_tokenizer.quantize(self.embed_prompts(batch.prompts)[:, None])}
            given["semantic"] = self._sample("semantic", given, semantic_frames, batch)
        with batch.part("coarse"):
            given["coarse"] = self._sample("coarse", given, frames, batch)
        with batch.part("fine"):
            fine = self._sample("fine", {"coarse": given["coarse"]}, frames, batch)
        with batch.part("decoder"):
            return self.codec.decode_codes(torch.cat([given["coarse"], fine], dim=1))

    def _sample(self, stream: str, given: Mapping[str, Tensor], length: int, batch: Batch) -> Int[Tensor, "b q l"]:
        model: TokenLM = getattr(self, f"{stream}_lm")
        temperature: float = getattr(self, f"{stream}_temperature")
        hop = min(max(1, model.max_frames - round(self.context * model.max_frames)), longest_hop(model))
        purpose = "token sampling" if stream == "semantic" else f"{stream} token sampling"
        return torch.cat(list(sample_long(model, given, length, hop, batch.generators(purpose), temperature)), dim=2)

    def _num_steps(self, asked: int | None) -> int:
        if asked not in (None, 1):
            raise ValueError(f"num_steps {asked} asked for, but MusicLM has no sampling steps; leave it out, or say 1")
        return 1

    def _guidance(self, asked: float | None) -> float:
        if asked not in (None, 1):
            raise ValueError(f"guidance_scale {asked:g} asked for, but MusicLM has no guidance; leave it out, or say 1")
        return 1.0


def _check_streams(**models: TokenLM) -> None:
    for name, model in models.items():
        if tuple(model.stream_sizes) != STREAMS[name]:
            raise ValueError(
                f"{name} must be a model of the streams {', '.join(STREAMS[name])}, but this one's are "
                f"{', '.join(model.stream_sizes)}; give each stage's model to the argument of its name"
            )


def _check_parts(
    joint_tokenizer: Tokenizer, semantic_lm: TokenLM, coarse_lm: TokenLM, fine_lm: TokenLM, codec: Codec
) -> None:
    planned, coarse, fine = semantic_lm.stream_sizes, coarse_lm.stream_sizes, fine_lm.stream_sizes
    prompt = (joint_tokenizer.num_codebooks, joint_tokenizer.codebook_size)
    codes, levels = (codec.num_codebooks, codec.codebook_size), coarse["coarse"][0] + fine["fine"][0]
    rates, fine_rates, rate = coarse_lm.frame_rates, fine_lm.frame_rates, codec.frame_rate
    planned_rate = semantic_lm.frame_rates["semantic"] or rates["semantic"]  # Some models do not know theirs.
    size = "codebooks and codes"
    for what, one, given, other, taken in (
        (size, "joint tokenizer", prompt, "semantic model's prompt", planned["prompt"]),
        (size, "joint tokenizer", prompt, "coarse model's prompt", coarse["prompt"]),
        (size, "semantic model", planned["semantic"], "coarse model", coarse["semantic"]),
        (size, "coarse model", coarse["coarse"], "fine model", fine["coarse"]),
        (size, "codec", codes, "coarse and fine models", (levels, coarse["coarse"][1])),
        (size, "codec", codes, "coarse and fine models", (levels, fine["fine"][1])),
        ("semantic frames a second", "semantic model", planned_rate, "coarse model", rates["semantic"]),
        ("frames a second", "codec", rate, "coarse model", rates["coarse"]),
        ("frames a second", "codec", rate, "fine model", fine_rates["fine"]),
        ("coarse frames a second", "codec", rate, "fine model", fine_rates["coarse"]),
    ):
        if given != taken:
            raise ValueError(f"{what}: the {one} has {given} but the {other} {taken}; take all stages from one run")
    if not rates["semantic"]:
        raise ValueError("the coarse model's semantic codes have no frame rate; set frame_rate of that stream")
