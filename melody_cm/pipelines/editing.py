"""Music that goes on: beyond the trained length, from given music, and in holes of it (arXiv 2305.15719, Algorithm 2).

What is given is kept, sample by sample.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.audio import GeneratedAudio
from melody_cm.batch import MusicBatch
from melody_cm.diffusion import Continuation, Guided
from melody_cm.interfaces import Known, Tokenizer, TokenLM
from melody_cm.pipelines.diffusion import LONGEST_SECONDS, DiffusionPipeline, told
from melody_cm.pipelines.request import AudioPrompt, Batch, Prompt, Request, check_music
from melody_cm.pipelines.streaming import Waveforms, context_frames, decode_blocks, fade_in, joined
from melody_cm.pipelines.timeline import Hole, Timeline
from melody_cm.signal import resample


@dataclass
class Past:
    """Where music stands: the last of its codes and of its latent, as much as the next window can use."""

    codes: Int[Tensor, "b 1 n"]  # Semantic codes.
    latent: Float[Tensor, "b c k"]
    num_codes: int = 0  # Made so far, counted from the beginning; those above are the last of them.
    num_frames: int = 0


class EditingPipeline(DiffusionPipeline):
    """A pipeline that plans semantic codes and denoises them to a latent, and so can go on from either.

    Given music (b, 1, t) in [-1, 1] may have any sample rate. At the pipeline's own, the samples given are kept bit for
    bit, but for 20 ms of cross-fade next to what is new. Without prompts, each clip is its own prompt.
    """

    joint_tokenizer: Tokenizer
    semantic_tokenizer: Tokenizer
    semantic_lm: TokenLM
    semantic_frame_rate: float
    num_chunks: int

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS if self.denoiser.per_frame_angles else self.max_seconds

    @property
    def shortest_prompt_seconds(self) -> float:
        """One chunk."""
        return self.timeline.seconds(self.timeline.chunk)

    @property
    def context_seconds(self) -> float:
        """How much of the end of given music a continuation listens to."""
        return self.timeline.seconds(self.timeline.window) + self.timeline.fade / self.sample_rate

    @property
    def timeline(self) -> Timeline:
        """The pipeline's clocks."""
        return Timeline(self.sample_rate, self.hop_length, self.semantic_frame_rate, self.max_seconds, self.num_chunks)

    def prompt_codes(self, prompts: Sequence[Prompt]) -> Int[Tensor, "b q 1"]:
        """What the language model is told."""
        return self.joint_tokenizer.quantize(self.embed_prompts(prompts)[:, None])

    def hear(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b 1 n"]:
        """The semantic codes of music at the pipeline's sample rate."""
        batch, device = len(waveform), waveform.device
        item = torch.zeros(batch, dtype=torch.long, device=device)
        real = torch.ones(batch, waveform.shape[-1], dtype=torch.bool, device=device)
        return self.semantic_tokenizer(MusicBatch(item, item - 1, waveform, real, [""] * batch))

    def continue_from(self, waveform: Float[Tensor, "b 1 t"], sample_rate: int, request: Request) -> GeneratedAudio:
        """The given music and what follows it, `request.seconds` long together.

        Raises:
            ValueError: music that is silent, shorter than one chunk or not shorter than `request.seconds`; a denoiser
                without per-frame angles.
        """
        given = resample(waveform, sample_rate, self.sample_rate)
        seconds = 0.0 if request.seconds is None else request.seconds
        new_samples = round(seconds * self.sample_rate) - given.shape[-1]
        if new_samples <= 0:
            raise ValueError(
                f"{seconds:g} seconds asked for, but the music given has {given.shape[-1] / self.sample_rate:g} s "
                "already; seconds counts both, so ask for more"
            )
        new = self.stream_continuation(
            given, self.sample_rate, replace(request, seconds=new_samples / self.sample_rate)
        )
        kept = GeneratedAudio(given[..., : -self.timeline.fade].to(self.device), self.sample_rate, {})
        return joined([kept, *new])

    def stream_continuation(
        self, waveform: Float[Tensor, "b 1 t"], sample_rate: int, request: Request
    ) -> Iterator[GeneratedAudio]:
        """What follows given music, block by block, `request.seconds` long (here without the music given).

        The first block begins 20 ms before the end of what is given, cross-faded with it, and takes its place there.
        Only the last `context_seconds` of what is given have any influence.
        """
        given = self._given(waveform, sample_rate)[..., -round(self.context_seconds * self.sample_rate) :]
        fade, needed = self.timeline.fade, self.timeline.seconds(self.timeline.chunk)
        if given.shape[-1] < needed * self.sample_rate + fade:
            raise ValueError(
                f"the music given has {given.shape[-1] / self.sample_rate:g} s, but to go on from it takes one chunk "
                f"of {needed:g} s and its 20 ms of cross-fade; give more"
            )
        batch = self._editing_batch(request, given)
        return self._finish(batch, self._continue(given, batch), batch.seconds + fade / self.sample_rate)

    def inpaint(
        self,
        waveform: Float[Tensor, "b 1 t"],
        sample_rate: int,
        from_seconds: float,
        to_seconds: float,
        request: Request | None = None,
    ) -> GeneratedAudio:
        """The given music with new music between two places (seconds); only the window around them has influence.

        Raises:
            ValueError: music that is silent around the hole; a hole that is too long or not in the music; a denoiser
                without per-frame angles.
        """
        given = self._given(waveform, sample_rate)
        hole = self.hole(given.shape[-1] / self.sample_rate, from_seconds, to_seconds)
        window, inner = given[..., hole.window], hole.within_window()
        around = inner.around(window)
        check_music(around, "the music around the hole")
        request = replace(request or Request(), seconds=window.shape[-1] / self.sample_rate)
        batch = self._editing_batch(request, around)
        made = joined(self._finish(batch, self._fill(window, inner, batch), batch.seconds))
        whole = given.clone()
        whole[..., hole.window] = inner.fill(window, made.waveform)
        return GeneratedAudio(whole, self.sample_rate, made.timings)

    def hole(self, seconds: float, from_seconds: float, to_seconds: float) -> Hole:
        """Where a hole lies in music of that length, and which window of it is looked at to fill it; a ValueError as of
        `Hole`."""
        length, begin, end = (round(value * self.sample_rate) for value in (seconds, from_seconds, to_seconds))
        return Hole(self.timeline, length, begin, end)

    def make_blocks(self, batch: Batch) -> Waveforms:
        if batch.seconds <= self.max_seconds:
            yield self.make(batch)
            return
        clips = len(batch.prompts)
        codes = torch.empty(clips, 1, 0, dtype=torch.long, device=self.device)
        latent = torch.empty(clips, self.autoencoder.latent_channels, 0, device=self.device)
        yield from self._go_on(Past(codes, latent), batch)

    def _given(self, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b 1 _"]:
        if not self.denoiser.per_frame_angles:
            raise ValueError(
                f"this {type(self).__name__} cannot continue or inpaint music: its denoiser takes one noise level a "
                "clip (per_frame_angles is False); use one with a dual-path denoiser"
            )
        check_music(waveform, "the music given")
        return resample(waveform.float(), sample_rate, self.sample_rate).to(self.device)

    def _editing_batch(self, request: Request, given: Float[Tensor, "b 1 t"]) -> Batch:
        """The request with the given music as its prompts where it has none."""
        own_prompts = [AudioPrompt(clip, self.sample_rate) for clip in given.split(1)]
        batch = self.batch(replace(request, prompts=request.prompts or own_prompts))
        if len(batch.prompts) != len(given):
            raise ValueError(
                f"{len(batch.prompts)} prompts for {len(given)} clips of music; give one for every clip, or none at all"
            )
        return batch

    def _continue(self, given: Float[Tensor, "b 1 t"], batch: Batch) -> Waveforms:
        """What follows given music, from the beginning of the cross-fade."""
        fade = self.timeline.fade
        yield from fade_in(given[..., -fade:], self._go_on(self._heard(given, batch), batch, fade))

    def _heard(self, given: Float[Tensor, "b 1 t"], batch: Batch) -> Past:
        """The codes and the latent of the end of given music, up to where the cross-fade begins."""
        hop, fade = self.timeline.hop_length, self.timeline.fade
        frames = min(self.timeline.window, (given.shape[-1] - fade) // hop)
        # Latent frames end where the cross-fade begins: there the encoder still hears what comes next.
        heard = given[..., given.shape[-1] - fade - frames * hop :]
        with batch.part("planner"):
            codes = self.hear(heard)[..., : self.timeline.whole_codes(frames)]
        with batch.part("encoder"):
            latent = self.autoencoder.encode(heard)[..., :frames]
        return Past(codes, latent, codes.shape[-1], frames)

    def _go_on(self, past: Past, batch: Batch, more: int = 0) -> Waveforms:
        """What follows the past, at least as long as the batch and `more` samples, as blocks."""
        timeline = self.timeline
        with batch.part("planner"):
            prompt = self.prompt_codes(batch.prompts)

        def decode(latent: Tensor) -> Tensor:
            with batch.part("decoder"):
                return self.autoencoder.decode(latent)

        channels, hop_length = self.autoencoder.latent_channels, timeline.hop_length
        context = context_frames(decode, channels, hop_length, timeline.window, self.device)
        before = past.latent[..., max(0, past.num_frames - context) :]
        frames = timeline.frames(round(batch.seconds * self.sample_rate) + more)
        yield from decode_blocks(self._latents(past, prompt, frames, batch), decode, context, hop_length, before)

    def _latents(
        self, past: Past, prompt: Int[Tensor, "b q 1"], num_frames: int, batch: Batch
    ) -> Iterator[Float[Tensor, "b c _"]]:
        """Finished latent frames, one piece after another, until there are at least `num_frames` new ones.

        Each piece takes one step of the language model and one sampling of the window. The window's codes are the last
        that its frames need, so that codes and frames never drift apart, and memory does not depend on the length.
        """
        timeline, last = self.timeline, past.num_frames + num_frames
        denoiser = told(Guided(self.denoiser, batch.guidance_scale), batch)
        angles = self.schedule.angles(batch.num_steps)
        continuation = Continuation(self.sampler, denoiser, angles, timeline.window, timeline.chunk)
        shape = (past.latent.shape[1], timeline.window)
        for window in itertools.count():
            if past.num_frames >= last:
                return
            end = past.num_frames + timeline.window - continuation.num_kept(past.latent.shape[-1])
            with batch.part("planner"):
                new, generators = timeline.codes(end) - past.num_codes, batch.generators("token sampling", window)
                codes = self.semantic_lm.extend({"prompt": prompt}, past.codes, new, generators)
                past.codes = torch.cat([past.codes, codes], dim=-1)[..., -timeline.codes(timeline.window) :]
            with batch.part("denoiser"):
                conditioning, generators = self.conditioner.embed(past.codes), batch.generators("sampler", window)
                frames = continuation.next_frames(past.latent, batch.noise(shape, window), conditioning, generators)
                past.latent = torch.cat([past.latent, frames], dim=-1)[..., -timeline.window :]
            past.num_codes, past.num_frames = past.num_codes + new, end
            yield frames

    def _fill(self, given: Float[Tensor, "b 1 t"], hole: Hole, batch: Batch) -> Waveforms:
        """The window `given` as the networks hear it, with new music in the hole.

        The language model writes the hole's codes after those before it; those after it are the music's own.
        """
        emptied = hole.emptied(given)
        with batch.part("planner"):
            codes = self.hear(emptied)
            first, last = hole.codes
            new = min(last, codes.shape[-1]) - first
            prompt, generators = {"prompt": self.prompt_codes(batch.prompts)}, batch.generators("token sampling")
            codes[..., first : first + new] = self.semantic_lm.extend(prompt, codes[..., :first], new, generators)
        with batch.part("encoder"):
            latent = self.autoencoder.encode(emptied)
        with batch.part("denoiser"):
            frames = hole.known_frames().to(latent.device).expand(len(latent), -1)
            noise = batch.noise(latent.shape[1:])
            latent = self.denoise(batch, noise, self.conditioner.embed(codes), Known(latent, frames))
        with batch.part("decoder"):
            filled = self.autoencoder.decode(latent)[..., : given.shape[-1]]
        yield filled
