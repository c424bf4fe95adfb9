"""MeLoDy: a language model plans semantic codes, dual-path diffusion turns them into a latent (arXiv 2305.15719, 3).

Algorithm 1 of the paper: prompt tokens, semantic tokens, a few denoising steps, the audio VAE's decoder.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.diffusion import Continuation, Guided
from melody_cm.interfaces import (
    AngleSchedule,
    Autoencoder,
    Conditioner,
    Denoiser,
    JointEmbedding,
    Known,
    Sampler,
    Tokenizer,
    TokenLM,
)
from melody_cm.pipelines.decoding import context_frames, decode_blocks
from melody_cm.pipelines.editing import EditingPipeline
from melody_cm.pipelines.inpainting import Hole
from melody_cm.pipelines.long_music import LongMusic, Past
from melody_cm.pipelines.request import Prompt, Request, Stopwatch
from melody_cm.pipelines.timeline import Timeline

# Half a day, so that a 16-bit or 24-bit WAV holds it.
LONGEST_SECONDS = 43200.0


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

    Music beyond `max_seconds` grows by one chunk at a time, from what went before.

    Args:
        joint_tokenizer: quantizes one joint embedding a clip.
        semantic_tokenizer: hears the codes of given music.
        semantic_lm: its streams are "prompt", then "semantic".
        conditioner: takes semantic codes (b, 1, n).
        semantic_frame_rate: semantic codes a second (Hz), those of the semantic tokenizer.
        max_seconds: the length that the networks were trained on.
        num_chunks: pieces of that length which had noise levels of their own in training.
        num_steps, guidance_scale: used where a call gives none; a guidance scale of 1 is none.
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
        if guidance_embedded and guidance_scale != 1:
            raise ValueError(f"guidance_scale is {guidance_scale:g}, but with guidance_embedded it must be 1 (none)")
        if semantic_tokenizer.frame_rate != semantic_frame_rate:
            raise ValueError(
                f"the semantic tokenizer makes {semantic_tokenizer.frame_rate:g} codes a second, but "
                f"semantic_frame_rate is {semantic_frame_rate:g}; set it to the tokenizer's"
            )
        if num_chunks < 2:
            raise ValueError(f"num_chunks is {num_chunks}, but music goes on from known chunks; use at least 2")
        self.joint_embedding = joint_embedding
        self.joint_tokenizer = joint_tokenizer
        self.semantic_tokenizer = semantic_tokenizer
        self.semantic_lm = semantic_lm
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.schedule = schedule
        self.sampler = sampler
        self.semantic_frame_rate = semantic_frame_rate
        self.max_seconds = max_seconds
        self.num_chunks = num_chunks
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.guidance_embedded = guidance_embedded
        self.embedded_guidance_scale = embedded_guidance_scale
        self.sample_rate = autoencoder.sample_rate

    def make(self, request: Request, stopwatch: Stopwatch) -> Float[Tensor, "b 1 t"]:
        with stopwatch.part("planner"):
            prompt = self.prompt_codes(request.prompts)
            samples = round(request.seconds * self.sample_rate)  # Whole samples, as a tokenizer would count them.
            length = math.ceil(samples * self.semantic_frame_rate / self.sample_rate)
            codes = self.semantic_lm.sample({"prompt": prompt}, length, request.generators("token sampling"))
        with stopwatch.part("denoiser"):
            shape = self.autoencoder.latent_shape(request.seconds)
            latent = self._sample(shape, codes, request)
        with stopwatch.part("decoder"):
            return self.autoencoder.decode(latent)

    def make_blocks(self, request: Request, stopwatch: Stopwatch) -> Iterator[Float[Tensor, "b 1 _"]]:
        if request.seconds <= self.max_seconds:
            yield self.make(request, stopwatch)
            return
        batch = len(request.prompts)
        codes = torch.empty(batch, 1, 0, dtype=torch.long, device=self.device)
        latent = torch.empty(batch, self.autoencoder.latent_channels, 0, device=self.device)
        samples = round(request.seconds * self.sample_rate)
        yield from self._go_on(Past(codes, latent, 0, 0), samples, request, stopwatch)

    def continuation_blocks(
        self, given: Float[Tensor, "b 1 t"], request: Request, stopwatch: Stopwatch
    ) -> Iterator[Float[Tensor, "b 1 _"]]:
        hop, fade = self.timeline.hop_length, self.timeline.fade
        frames = min(self.timeline.window, (given.shape[-1] - fade) // hop)
        # Latent frames end where the cross-fade begins: there the encoder still hears what comes next.
        heard = given[..., given.shape[-1] - fade - frames * hop :]
        with stopwatch.part("planner"):
            codes = self.hear(heard)[..., : self.timeline.whole_codes(frames)]
        with stopwatch.part("encoder"):
            latent = self.autoencoder.encode(heard)[..., :frames]
        samples = round(request.seconds * self.sample_rate) + fade
        yield from self._go_on(Past(codes, latent, codes.shape[-1], frames), samples, request, stopwatch)

    def fill(
        self, given: Float[Tensor, "b 1 t"], hole: Hole, request: Request, stopwatch: Stopwatch
    ) -> Float[Tensor, "b 1 t"]:
        """The language model writes the hole's codes after those before it; those after it are the music's own."""
        emptied = hole.emptied(given)
        with stopwatch.part("planner"):
            codes = self.hear(emptied)
            first, last = hole.codes
            new = min(last, codes.shape[-1]) - first
            prompt, generators = {"prompt": self.prompt_codes(request.prompts)}, request.generators("token sampling")
            codes[..., first : first + new] = self.semantic_lm.extend(prompt, codes[..., :first], new, generators)
        with stopwatch.part("encoder"):
            latent = self.autoencoder.encode(emptied)
        with stopwatch.part("denoiser"):
            frames = hole.known_frames().to(latent.device).expand(len(latent), -1)
            latent = self._sample(latent.shape[1:], codes, request, Known(latent, frames))
        with stopwatch.part("decoder"):
            return self.autoencoder.decode(latent)[..., : given.shape[-1]]

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS if self.denoiser.per_frame_angles else self.max_seconds

    @property
    def shortest_prompt_seconds(self) -> float:
        """One chunk."""
        return self.timeline.seconds(self.timeline.chunk)

    @property
    def timeline(self) -> Timeline:
        frames = self.autoencoder.latent_shape(1000.0)[1]  # Long, so that what is rounded up does not count.
        hop_length = round(1000 * self.sample_rate / frames)
        return Timeline(self.sample_rate, hop_length, self.semantic_frame_rate, self.max_seconds, self.num_chunks)

    def prompt_codes(self, prompts: Sequence[Prompt]) -> Int[Tensor, "b q 1"]:
        """What the language model is told."""
        return self.joint_tokenizer.quantize(self.embed_prompts(prompts)[:, None])

    def hear(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b 1 n"]:
        """The semantic codes of music at the pipeline's sample rate."""
        batch, device = len(waveform), waveform.device
        item = torch.zeros(batch, dtype=torch.long, device=device)
        real = torch.ones(batch, waveform.shape[-1], dtype=torch.bool, device=device)
        return self.semantic_tokenizer(MusicBatch(item, item - 1, waveform, real, [""] * batch))

    def _sample(
        self, shape: Sequence[int], codes: Int[Tensor, "b 1 n"], request: Request, known: Known | None = None
    ) -> Float[Tensor, "b c l"]:
        return self.sampler.sample(
            Guided(self.denoiser, request.guidance_scale),
            request.noise(shape, self.device),
            self.conditioner.embed(codes),
            self.schedule.angles(request.num_steps),
            request.generators("sampler"),
            known,
        )

    def _go_on(
        self, past: Past, samples: int, request: Request, stopwatch: Stopwatch
    ) -> Iterator[Float[Tensor, "b 1 _"]]:
        """What follows the past, at least so many samples, as blocks."""
        timeline = self.timeline
        with stopwatch.part("planner"):
            prompt = self.prompt_codes(request.prompts)
        denoiser, angles = Guided(self.denoiser, request.guidance_scale), self.schedule.angles(request.num_steps)
        continuation = Continuation(self.sampler, denoiser, angles, timeline.window, timeline.chunk)
        music = LongMusic(timeline, self.semantic_lm, self.conditioner, continuation, request, prompt, past, stopwatch)

        def decode(latent: Tensor) -> Tensor:
            with stopwatch.part("decoder"):
                return self.autoencoder.decode(latent)

        channels, hop_length = self.autoencoder.latent_channels, timeline.hop_length
        context = context_frames(decode, channels, hop_length, timeline.window, self.device)
        before = past.latent[..., max(0, past.num_frames - context) :]
        yield from decode_blocks(music.latents(timeline.frames(samples)), decode, context, hop_length, before)
