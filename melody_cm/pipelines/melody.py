"""MeLoDy: a language model plans semantic codes, dual-path diffusion turns them into a latent (arXiv 2305.15719, 3).

Algorithm 1 of the paper: prompt tokens, semantic tokens, a few denoising steps, the audio VAE's decoder.
"""

import math

from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion import Guided
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
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Request, Stopwatch


class MeLoDy(PretrainedPipeline):
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
    decoder       `WaveformAutoencoder`
    ============  =====================================

    Args:
        joint_tokenizer: quantizes one joint embedding a clip.
        semantic_lm: its streams are "prompt", then "semantic".
        conditioner: takes semantic codes (b, 1, n).
        semantic_frame_rate: semantic codes a second (Hz).
        max_seconds: the length that the networks were trained on.
        num_steps, guidance_scale: used where a call gives none; a guidance scale of 1 is none.
    """

    def __init__(
        self,
        joint_embedding: JointEmbedding,
        joint_tokenizer: Tokenizer,
        semantic_lm: TokenLM,
        conditioner: Conditioner,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        schedule: AngleSchedule,
        sampler: Sampler,
        semantic_frame_rate: float = 25.0,
        max_seconds: float = 10.0,
        num_steps: int = 20,
        guidance_scale: float = 2.5,
    ) -> None:
        self.joint_embedding = joint_embedding
        self.joint_tokenizer = joint_tokenizer
        self.semantic_lm = semantic_lm
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.schedule = schedule
        self.sampler = sampler
        self.semantic_frame_rate = semantic_frame_rate
        self.max_seconds = max_seconds
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.sample_rate = autoencoder.sample_rate

    def make(self, request: Request, stopwatch: Stopwatch) -> Float[Tensor, "b 1 t"]:
        with stopwatch.part("planner"):
            embedding = self.joint_embedding.embed_text(request.prompts)
            prompt = self.joint_tokenizer.quantize(embedding[:, None])
            samples = round(request.seconds * self.sample_rate)  # Whole samples, as a tokenizer would count them.
            length = math.ceil(samples * self.semantic_frame_rate / self.sample_rate)
            codes = self.semantic_lm.sample({"prompt": prompt}, length, request.generators("token sampling"))
        with stopwatch.part("denoiser"):
            noise = request.noise(self.autoencoder.latent_shape(request.seconds), self.device)
            latent = self.sampler.sample(
                Guided(self.denoiser, request.guidance_scale),
                noise,
                self.conditioner.embed(codes),
                self.schedule.angles(request.num_steps),
                request.generators("sampler"),
            )
        with stopwatch.part("decoder"):
            return self.autoencoder.decode(latent)
