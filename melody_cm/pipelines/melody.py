"""MeLoDy: a language model plans semantic codes, dual-path diffusion turns them into a latent (arXiv 2305.15719, 3).

Algorithm 1 of the paper: prompt tokens, semantic tokens, a few denoising steps, the audio VAE's decoder.
"""

import math

from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import (
    AngleSchedule,
    Autoencoder,
    Conditioner,
    Denoiser,
    JointEmbedding,
    Sampler,
    Tokenizer,
    TokenLM,
)
from melody_cm.pipelines.editing import EditingPipeline
from melody_cm.pipelines.request import Batch


class MeLoDy(EditingPipeline):
    """Prompts -> prompt codes -> semantic codes -> latent -> waveform.

    ============  =====================================
    role          MeLoDy
    ============  =====================================
    prompt        `JointEmbedding` -> RVQ tokens
    planner       semantic LM (`TokenLM`)
    conditioning  `SemanticConditioner`
    generator     `DualPathDenoiser`
    noise levels  `LinearAngles`
    sampler       `DDIMSampler`, 5-20 steps
    long music    `Continuation`
    decoder       `WaveformAutoencoder`
    ============  =====================================

    Music beyond `max_seconds` grows by one chunk at a time, from what went before (`EditingPipeline`).

    Args:
        joint_tokenizer: quantizes one joint embedding a clip.
        semantic_tokenizer: hears the codes of given music.
        semantic_lm: its streams are "prompt", then "semantic".
        conditioner: takes semantic codes (b, 1, n).
        semantic_frame_rate: semantic codes a second (Hz), those of the semantic tokenizer.
        max_seconds: the length that the networks were trained on.
        num_chunks: pieces of that length which had noise levels of their own in training.
        num_steps, guidance_scale: used where a request has none; a guidance scale of 1 is none.
        guidance_embedded, embedded_guidance_scale: as in `MusicCM`; for a student.

    Raises:
        ValueError: a tokenizer of another rate, or fewer than 2 chunks.
    """

    def __init__(
        self,
        joint_embedding: JointEmbedding,
        joint_tokenizer: Tokenizer,
        semantic_tokenizer: Tokenizer,
        semantic_lm: TokenLM,
        conditioner: Conditioner,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        schedule: AngleSchedule,
        sampler: Sampler,
        semantic_frame_rate: float = 25.0,
        max_seconds: float = 10.0,
        num_chunks: int = 4,
        num_steps: int = 20,
        guidance_scale: float = 2.5,
        guidance_embedded: bool = False,
        embedded_guidance_scale: float | None = None,
    ) -> None:
        self._keep(locals())
        self._check_guidance()
        self._check_clocks()

    def make(self, batch: Batch) -> Float[Tensor, "b 1 t"]:
        with batch.part("planner"):
            samples = round(batch.seconds * self.sample_rate)  # Whole samples, as a tokenizer would count them.
            length = math.ceil(samples * self.semantic_frame_rate / self.sample_rate)
            prompt = self.prompt_codes(batch.prompts)
            codes = self.semantic_lm.sample({"prompt": prompt}, length, batch.generators("token sampling"))
        with batch.part("denoiser"):
            noise = batch.noise(self.autoencoder.latent_shape(batch.seconds))
            latent = self.denoise(batch, noise, self.conditioner.embed(codes))
        with batch.part("decoder"):
            return self.autoencoder.decode(latent)
