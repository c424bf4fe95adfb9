"""MusicCM: consistency-distilled latent diffusion on mel spectrograms (arXiv 2404.13358, section 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm import storage
from melody_cm.diffusion import FramewiseSampler, GridAngles, Guided, SharedRestriction, TimestepDenoiser, lcm_settings
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Denoiser, JointEmbedding, Sampler
from melody_cm.pipelines.diffusion import LONGEST_SECONDS, DiffusionPipeline, told
from melody_cm.pipelines.request import Batch, Request, Windows
from melody_cm.pipelines.streaming import Waveforms, close_loop, decode_long, each_within
from melody_cm.pipelines.timeline import FADE_SECONDS
from melody_cm.signal.windows import window_starts


class MusicCM(DiffusionPipeline):
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
    latent seen through overlapping windows of the trained length (`LongMusic`).

    Args:
        conditioner: takes joint embeddings (b, d).
        max_seconds: the length that the networks were trained on.
        num_steps, guidance_scale: used where a request has none; a guidance scale of 1 is none.
        guidance_embedded: the denoiser learned a guided teacher's results (True: no guidance at inference).
        embedded_guidance_scale: at which scale it learned them, if known.
    """

    longest_seconds = LONGEST_SECONDS

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
        self._keep(locals())
        self._check_guidance()

    def make(self, batch: Batch) -> Float[Tensor, "b 1 t"]:
        with batch.part("planner"):
            embedding = self.embed_prompts(batch.prompts)
        with batch.part("denoiser"):
            noise = batch.noise(self.autoencoder.latent_shape(self.max_seconds))
            latent = self.denoise(batch, noise, self.conditioner.embed(embedding))
        with batch.part("decoder"):
            return self.autoencoder.decode(latent)

    def make_blocks(self, batch: Batch) -> Waveforms:
        if batch.seconds <= self.max_seconds and not batch.loop:
            yield self.make(batch)
        else:
            yield from LongMusic(self, batch).blocks()

    @property
    def window(self) -> int:
        """Latent frames of the trained length."""
        return self.autoencoder.latent_shape(self.max_seconds)[1]

    def window_seconds(self, seconds: float, loop: bool = False, windows: Windows = "shared") -> list[float]:
        """When the windows begin of which long music is made."""
        music = LongMusic(self, Request((), seconds, loop=loop, windows=windows))
        return [start * self.hop_length / self.sample_rate for start in music.starts]

    def _check_arrangement(self, request: Request) -> None:
        LongMusic(self, request).check()

    def _save_more(self, folder: Path) -> None:
        """How diffusers' LCMScheduler samples the network, where it is a student that diffusers can open.

        A student of a grid that LCMScheduler does not know gets none, and a line says so.
        """
        if not (isinstance(self.denoiser, TimestepDenoiser) and isinstance(self.schedule, GridAngles)):
            return
        try:
            settings = lcm_settings(self.schedule, self.denoiser.prediction)
        except ValueError as reason:
            print(f"no scheduler for diffusers is written: {reason}; melody_cm samples it all the same")
        else:
            storage.write_json(folder / "scheduler" / "scheduler_config.json", settings)


@dataclass
class LongMusic:
    """Music of MusicCM beyond the trained length, or in a loop: one latent, of which a window at a time is seen.

    Windows agree with their neighbours only: in few steps news travels about as many windows, so there is no verse and
    chorus.
    """

    pipeline: MusicCM
    request: Request  # As it was asked for; a `Batch` where music is made.

    @property
    def frames(self) -> int:
        """Frames of the latent."""
        if self.request.loop:
            return round(self.request.seconds * self.pipeline.sample_rate) // self.pipeline.hop_length
        return self.pipeline.autoencoder.latent_shape(self.request.seconds)[1]

    @property
    def starts(self) -> list[int]:
        """The frames at which the windows begin; those of a loop go on at its beginning."""
        window = self.pipeline.window
        if self.request.windows == "independent":
            return list(range(0, self.frames, window))
        return window_starts(self.frames, window, max(1, window // 2), self.request.loop)

    def check(self) -> None:
        """Refuse what does not fit music of that length with a ValueError: a prompt time beyond the end, changing
        prompts in music of one window, or a loop that is shorter than a window or no whole number of latent frames."""
        seconds, longest, times = self.request.seconds, self.pipeline.max_seconds, self.request.prompt_at
        if times and times[-1][0] >= seconds:
            raise ValueError(
                f"a prompt at {times[-1][0]:g} s, but the music has {seconds:g} s; give earlier times or ask for more "
                "seconds"
            )
        if times and seconds <= longest:
            raise ValueError(
                f"{seconds:g} seconds are one window, which has one prompt; prompts change in music beyond "
                f"{longest:g} s"
            )
        rate, unit, window = self.pipeline.sample_rate, self.pipeline.hop_length, self.pipeline.window
        if self.request.loop and (round(seconds * rate) % unit or self.frames < window):
            near = [max(each, window) * unit / rate for each in (self.frames, self.frames + 1)]
            raise ValueError(
                f"a loop of {seconds:g} s is no whole number of the latent's frames of {unit} samples, or shorter than "
                f"the window of {longest:g} s; ask for {near[0]:g} or {near[1]:g} s"
            )

    def blocks(self) -> Waveforms:
        """The music, block by block; a loop is sampled as a whole, all else from its beginning on."""
        pipeline, batch = self.pipeline, self.request
        shape = list(pipeline.autoencoder.latent_shape(pipeline.max_seconds))
        shape[1] = self.frames
        with batch.part("planner"):
            embeddings = self._embeddings()
        sample = self._sample_independent if batch.windows == "independent" else self._sample_shared
        latents = each_within(lambda: batch.part("denoiser"), sample(shape, embeddings))
        if batch.loop:
            blocks = self._sound_of_loop(next(latents))
        else:
            length = self.starts[-1] + pipeline.window
            blocks = decode_long(pipeline.autoencoder, latents, length, pipeline.window)
        yield from each_within(lambda: batch.part("decoder"), blocks)

    def _embeddings(self) -> Float[Tensor, "b n d"]:
        """What each window of each clip is told: the prompt that holds in its middle."""
        pipeline, batch, frames = self.pipeline, self.request, self.frames
        own = pipeline.embed_prompts(batch.prompts)
        later = pipeline.embed_prompts([text for _, text in batch.prompt_at]) if batch.prompt_at else own
        embeddings = []
        for start in self.starts:
            middle = (start + pipeline.window / 2) % frames if batch.loop else start + pipeline.window / 2
            seconds = middle * pipeline.hop_length / pipeline.sample_rate
            begun = [place for place, (time, _) in enumerate(batch.prompt_at) if time <= seconds]
            embeddings.append(later[begun[-1]].expand_as(own) if begun else own)
        return torch.stack(embeddings, dim=1)

    def _sample_shared(self, shape: Sequence[int], embeddings: Float[Tensor, "b n d"]) -> Iterator[Tensor]:
        """The latent of `shape`, one piece after another."""
        pipeline, batch = self.pipeline, self.request
        guided, noise = Guided(pipeline.denoiser, batch.guidance_scale), batch.noise(shape)
        conditioning = pipeline.conditioner.embed(embeddings.flatten(0, 1))
        if batch.loop or not isinstance(pipeline.sampler, FramewiseSampler):
            shared = SharedRestriction(guided, pipeline.window, loop=batch.loop, rows=rows_on(batch.device))
            yield pipeline.denoise(batch, noise, conditioning, denoiser=shared)
            return
        shared = SharedRestriction(told(guided, batch), pipeline.window, rows=rows_on(batch.device))
        angles = pipeline.schedule.angles(batch.num_steps)
        yield from shared.sample_blocks(pipeline.sampler, noise, conditioning, angles, batch.generators("sampler"))

    def _sample_independent(self, shape: Sequence[int], embeddings: Float[Tensor, "b n d"]) -> Iterator[Tensor]:
        """Windows end to end, each from noise of its own; the first is what the trained length gives."""
        pipeline, batch = self.pipeline, self.request
        clips, shape = len(embeddings), [shape[0], pipeline.window, *shape[2:]]
        for several in torch.arange(embeddings.shape[1]).split(max(1, rows_on(batch.device) // clips)):
            noise = torch.cat([batch.noise(shape, int(window)) for window in several])
            conditioning = pipeline.conditioner.embed(embeddings[:, several].transpose(0, 1).flatten(0, 1))
            fresh = [each for window in several for each in batch.generators("sampler", int(window))]
            yield from pipeline.denoise(batch, noise, conditioning, generators=fresh).split(clips)

    def _sound_of_loop(self, latent: Tensor) -> Waveforms:
        """The latent decoded with its end before it and its beginning after it."""
        window, hop_length = self.pipeline.window, self.pipeline.hop_length
        around = window // 2
        longer = torch.cat([latent[:, :, latent.shape[2] - around :], latent, latent[:, :, :around]], dim=2)
        fade, length = round(FADE_SECONDS * self.pipeline.sample_rate), latent.shape[2] * hop_length
        blocks = decode_long(self.pipeline.autoencoder, [longer], longer.shape[2], window)
        return close_loop(blocks, around * hop_length, fade, length)


def rows_on(device: torch.device) -> int:
    """Windows that are sampled at once, and so the clips of a call. A CPU is hardly faster at more, and the first sound
    waits for them."""
    return 2 if device.type == "cpu" else 8
