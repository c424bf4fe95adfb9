"""MusicCM: consistency-distilled latent diffusion on mel spectrograms (arXiv 2404.13358, sections 3.1 and 3.2)."""

from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion import Guided
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Denoiser, JointEmbedding, Sampler
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Request, Stopwatch


class MusicCM(PretrainedPipeline):
    """Prompts -> joint embedding -> latent -> mel -> waveform; the student, and with other parts the teacher.

    ============  ==========================================================
    role          MusicCM
    ============  ==========================================================
    prompt        the `JointEmbedding` vector (CLAP's role)
    planner       -
    conditioning  `TextConditioner`
    generator     `UNet2D`, student (teacher)
    noise levels  `ScaledLinearBetaAngles`
    sampler       `ConsistencySampler`, 1-6 steps (`DDIMSampler`, 50 steps)
    decoder       mel VAE + vocoder
    ============  ==========================================================

    Every clip is sampled at the full trained length and cut, because the U-Net knows no other (and not every length
    survives its downsampling); so a short clip costs as much as a long one, and is its beginning.

    Args:
        conditioner: takes joint embeddings (b, d).
        max_seconds: the length that the networks were trained on.
        num_steps, guidance_scale: used where a call gives none; a guidance scale of 1 is none.
        guidance_embedded: the denoiser learned a guided teacher's results (True: no guidance at inference).
        embedded_guidance_scale: at which scale it learned them, if known.
    """

    def __init__(
        self,
        joint_embedding: JointEmbedding,
        conditioner: Conditioner,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        schedule: AngleSchedule,
        sampler: Sampler,
        max_seconds: float = 10.0,
        num_steps: int = 4,
        guidance_scale: float = 1.0,
        guidance_embedded: bool = True,
        embedded_guidance_scale: float | None = None,
    ) -> None:
        if guidance_embedded and guidance_scale != 1:
            raise ValueError(f"guidance_scale is {guidance_scale:g}, but with guidance_embedded it must be 1 (none)")
        self.joint_embedding = joint_embedding
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.schedule = schedule
        self.sampler = sampler
        self.max_seconds = max_seconds
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.guidance_embedded = guidance_embedded
        self.embedded_guidance_scale = embedded_guidance_scale
        self.sample_rate = autoencoder.sample_rate

    def make(self, request: Request, stopwatch: Stopwatch) -> Float[Tensor, "b 1 t"]:
        with stopwatch.part("planner"):
            embedding = self.embed_prompts(request.prompts)
        with stopwatch.part("denoiser"):
            noise = request.noise(self.autoencoder.latent_shape(self.max_seconds), self.device)
            latent = self.sampler.sample(
                Guided(self.denoiser, request.guidance_scale),
                noise,
                self.conditioner.embed(embedding),
                self.schedule.angles(request.num_steps),
                request.generators("sampler"),
            )
        with stopwatch.part("decoder"):
            return self.autoencoder.decode(latent)
