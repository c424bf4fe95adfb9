"""MusicCM: consistency-distilled latent diffusion on mel spectrograms (arXiv 2404.13358, section 3)."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion import Guided, SharedRestriction, window_starts
from melody_cm.interfaces import (
    AngleSchedule,
    Autoencoder,
    Conditioner,
    Denoiser,
    GeneratedAudio,
    JointEmbedding,
    Sampler,
)
from melody_cm.pipelines.arrangement import Arrangement, Windows
from melody_cm.pipelines.blocks import joined
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Prompt, Request, Stopwatch
from melody_cm.pipelines.tiling import close_loop, sound
from melody_cm.pipelines.timeline import FADE_SECONDS

# Half a day, so that a 16-bit or 24-bit WAV holds it.
LONGEST_SECONDS = 43200.0
# Independent windows that are sampled at once, and so the clips of a call.
ROWS = 8
NO_NEGATIVE_PROMPT = (
    "a negative prompt has nothing to act on: guidance moves away from music without any prompt, and a student has "
    "that built in; say in the prompt what is wanted"
)


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
    long music    `SharedRestriction`
    decoder       mel VAE + vocoder
    ============  ==========================================================

    Every clip is sampled at the full trained length and cut, because the U-Net knows no other (and not every length
    survives its downsampling); so a short clip costs as much as a long one, and is its beginning. Longer music is one
    latent seen through overlapping windows of the trained length. Windows agree with their neighbours only: in
    few steps news travels about as many windows, so there is no verse and chorus.

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

    def generate(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        prompt_at: Sequence[tuple[float | int, str]] = (),
        loop: bool = False,
        windows: Windows = "shared",
        negative_prompt: str | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt, all in one batch; long music may be arranged (see `Arrangement`).

        Raises:
            ValueError: as `streams`; a negative prompt, which other systems take, always.
        """
        if negative_prompt is not None:
            raise ValueError(NO_NEGATIVE_PROMPT)
        arranged = (prompt_at, loop, windows)
        streams = self.streams(prompts, seconds, seed, num_steps, guidance_scale, max(1, len(prompts)), *arranged)
        return joined(list(next(streams)))

    def streams(
        self,
        prompts: Sequence[Prompt],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 8,
        prompt_at: Sequence[tuple[float | int, str]] = (),
        loop: bool = False,
        windows: Windows = "shared",
    ) -> Iterator[Iterator[GeneratedAudio]]:
        """At most `batch_size` clips at a time, as blocks; the request is checked before any of it.

        Raises:
            ValueError: as `Arrangement` and `generate`; a loop that is no whole number of latent frames.
        """
        request = self._request(prompts, seconds, seed, num_steps, guidance_scale)
        arrangement = Arrangement(prompt_at, loop, windows)
        arrangement.check(seconds, self.max_seconds)
        if loop:
            self._check_loop(seconds)
        blocks = partial(self._arranged_blocks, arrangement)
        return (self._finish(part, blocks, seconds) for part in request.split(batch_size))

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS

    @property
    def hop_length(self) -> int:
        """Samples a latent frame."""
        frames = self.autoencoder.latent_shape(1000.0)[1]  # Long, so that what is rounded up does not count.
        return round(1000 * self.sample_rate / frames)

    @property
    def window(self) -> int:
        """Latent frames of the trained length."""
        return self.autoencoder.latent_shape(self.max_seconds)[1]

    def window_seconds(self, seconds: float, loop: bool = False, windows: Windows = "shared") -> list[float]:
        """When the windows begin of which long music is made."""
        starts = self._starts(self._frames(seconds, loop), loop, windows)
        return [start * self.hop_length / self.sample_rate for start in starts]

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

    def make_blocks(self, request: Request, stopwatch: Stopwatch) -> Iterator[Float[Tensor, "b 1 _"]]:
        yield from self._arranged_blocks(Arrangement(), request, stopwatch)

    def _arranged_blocks(
        self, arrangement: Arrangement, request: Request, stopwatch: Stopwatch
    ) -> Iterator[Float[Tensor, "b 1 _"]]:
        if request.seconds <= self.max_seconds and not arrangement.loop:
            yield self.make(request, stopwatch)
            return
        shape = list(self.autoencoder.latent_shape(self.max_seconds))
        shape[1] = self._frames(request.seconds, arrangement.loop)
        with stopwatch.part("planner"):
            embeddings = self._embed_windows(arrangement, request, shape[1])
        with stopwatch.part("denoiser"):
            sample = self._sample_shared if arrangement.windows == "shared" else self._sample_independent
            latent = sample(shape, embeddings, arrangement, request)
        blocks = self._sound_of_loop(latent) if arrangement.loop else sound(self.autoencoder, latent, self.window)
        while True:
            with stopwatch.part("decoder"):
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def _frames(self, seconds: float, loop: bool) -> int:
        if loop:
            return round(seconds * self.sample_rate) // self.hop_length
        return self.autoencoder.latent_shape(seconds)[1]

    def _starts(self, frames: int, loop: bool, windows: Windows) -> list[int]:
        if windows == "independent":
            return list(range(0, frames, self.window))
        return window_starts(frames, self.window, max(1, self.window // 2), loop)

    def _embed_windows(self, arrangement: Arrangement, request: Request, frames: int) -> Float[Tensor, "b n d"]:
        """What each window of each clip is told: the prompt that holds in its middle."""
        own = self.embed_prompts(request.prompts)
        later = self.embed_prompts([text for _, text in arrangement.prompt_at]) if arrangement.prompt_at else own
        embeddings = []
        for start in self._starts(frames, arrangement.loop, arrangement.windows):
            middle = (start + self.window / 2) % frames if arrangement.loop else start + self.window / 2
            prompt = arrangement.prompt(middle * self.hop_length / self.sample_rate)
            embeddings.append(own if prompt is None else later[prompt].expand_as(own))
        return torch.stack(embeddings, dim=1)

    def _sample_shared(
        self, shape: Sequence[int], embeddings: Float[Tensor, "b n d"], arrangement: Arrangement, request: Request
    ) -> Tensor:
        denoiser = Guided(self.denoiser, request.guidance_scale)
        return self.sampler.sample(
            SharedRestriction(denoiser, self.window, loop=arrangement.loop),
            request.noise(shape, self.device),
            self.conditioner.embed(embeddings.flatten(0, 1)),
            self.schedule.angles(request.num_steps),
            request.generators("sampler"),
        )

    def _sample_independent(
        self, shape: Sequence[int], embeddings: Float[Tensor, "b n d"], arrangement: Arrangement, request: Request
    ) -> Tensor:
        """Windows end to end, each from noise of its own; the first is what the trained length gives."""
        clips, shape, latents = len(embeddings), [shape[0], self.window, *shape[2:]], []
        for several in torch.arange(embeddings.shape[1]).split(max(1, ROWS // clips)):
            made = self.sampler.sample(
                Guided(self.denoiser, request.guidance_scale),
                torch.cat([request.noise(shape, self.device, int(window)) for window in several]),
                self.conditioner.embed(embeddings[:, several].transpose(0, 1).flatten(0, 1)),
                self.schedule.angles(request.num_steps),
                [generator for window in several for generator in request.generators("sampler", int(window))],
            )
            latents += made.split(clips)
        return torch.cat(latents, dim=2)

    def _sound_of_loop(self, latent: Tensor) -> Iterator[Float[Tensor, "b 1 _"]]:
        """The latent decoded with its end before it and its beginning after it."""
        around, hop_length = self.window // 2, self.hop_length
        longer = torch.cat([latent[:, :, latent.shape[2] - around :], latent, latent[:, :, :around]], dim=2)
        blocks = sound(self.autoencoder, longer, self.window)
        return close_loop(
            blocks, around * hop_length, round(FADE_SECONDS * self.sample_rate), latent.shape[2] * hop_length
        )

    def _check_loop(self, seconds: float) -> None:
        samples, unit = round(seconds * self.sample_rate), self.hop_length
        frames = samples // unit
        if samples % unit or frames < self.window:
            near = [max(each, self.window) * unit / self.sample_rate for each in (frames, frames + 1)]
            raise ValueError(
                f"a loop of {seconds:g} s is no whole number of the latent's frames of {unit} samples, or shorter than "
                f"a window; ask for {near[0]:g} or {near[1]:g} s"
            )
