"""Going on from given music, and filling holes in it: what is given is kept, sample by sample."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import Denoiser, GeneratedAudio
from melody_cm.pipelines.blocks import joined
from melody_cm.pipelines.inpainting import Hole
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import AudioPrompt, Prompt, Request, Stopwatch
from melody_cm.pipelines.splicing import check_music, fade_in
from melody_cm.pipelines.timeline import Timeline
from melody_cm.signal import resample


class EditingPipeline(PretrainedPipeline):
    """A pipeline whose denoiser takes known frames; subclasses say how new music is made next to given music.

    Given music (b, 1, t) in [-1, 1] may have any sample rate. At the pipeline's own, the samples given are kept bit for
    bit, but for 20 ms of cross-fade next to what is new. Without prompts, each clip is its own prompt.
    """

    denoiser: Denoiser

    @property
    @abstractmethod
    def timeline(self) -> Timeline:
        """The pipeline's clocks."""

    @abstractmethod
    def continuation_blocks(
        self, given: Float[Tensor, "b 1 t"], request: Request, stopwatch: Stopwatch
    ) -> Iterator[Float[Tensor, "b 1 _"]]:
        """Music from the last 20 ms of `given` on, and then for at least `request.seconds`."""

    @abstractmethod
    def fill(
        self, given: Float[Tensor, "b 1 t"], hole: Hole, request: Request, stopwatch: Stopwatch
    ) -> Float[Tensor, "b 1 t"]:
        """The window `given` as the networks hear it, with new music in the hole."""

    def continue_from(
        self,
        waveform: Float[Tensor, "b 1 t"],
        sample_rate: int,
        seconds: float,
        prompts: Sequence[Prompt] | None = None,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """The given music and what follows it, `seconds` long together.

        Raises:
            ValueError: music that is silent, shorter than one chunk or not shorter than `seconds`; a denoiser without
                per-frame angles.
        """
        given = resample(waveform, sample_rate, self.sample_rate)
        new_samples = round(seconds * self.sample_rate) - given.shape[-1]
        if new_samples <= 0:
            raise ValueError(
                f"{seconds:g} seconds asked for, but the music given has {given.shape[-1] / self.sample_rate:g} s "
                "already; seconds counts both, so ask for more"
            )
        new_seconds = new_samples / self.sample_rate
        new = self.stream_continuation(given, self.sample_rate, new_seconds, prompts, seed, num_steps, guidance_scale)
        kept = GeneratedAudio(given[..., : -self.timeline.fade].to(self.device), self.sample_rate, {})
        return joined([kept, *new])

    def stream_continuation(
        self,
        waveform: Float[Tensor, "b 1 t"],
        sample_rate: int,
        new_seconds: float,
        prompts: Sequence[Prompt] | None = None,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Iterator[GeneratedAudio]:
        """What follows given music, block by block, `new_seconds` long.

        The first block begins 20 ms before the end of what is given, cross-faded with it, and takes its place there.
        Only the last `context_seconds` of what is given have any influence.
        """
        given = self._given(waveform, sample_rate)[..., -round(self.context_seconds * self.sample_rate) :]
        needed = self.timeline.seconds(self.timeline.chunk)
        if given.shape[-1] < needed * self.sample_rate + self.timeline.fade:
            raise ValueError(
                f"the music given has {given.shape[-1] / self.sample_rate:g} s, but to go on from it takes one chunk "
                f"of {needed:g} s and its 20 ms of cross-fade; give more"
            )
        request = self._request(prompts or self._own_prompts(given), new_seconds, seed, num_steps, guidance_scale)
        _check_rows(request, given)
        tail = given[..., -self.timeline.fade :]
        return self._finish(
            request,
            lambda request, stopwatch: fade_in(tail, self.continuation_blocks(given, request, stopwatch)),
            new_seconds + self.timeline.fade / self.sample_rate,
        )

    def inpaint(
        self,
        waveform: Float[Tensor, "b 1 t"],
        sample_rate: int,
        from_seconds: float,
        to_seconds: float,
        prompts: Sequence[Prompt] | None = None,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
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
        seconds = window.shape[-1] / self.sample_rate
        request = self._request(prompts or self._own_prompts(around), seconds, seed, num_steps, guidance_scale)
        _check_rows(request, window)
        made = joined(list(self._finish(request, lambda *parts: iter([self.fill(window, inner, *parts)]), seconds)))
        whole = given.clone()
        whole[..., hole.window] = inner.fill(window, made.waveform)
        return GeneratedAudio(whole, self.sample_rate, made.timings)

    @property
    def context_seconds(self) -> float:
        """How much of the end of given music a continuation listens to."""
        return self.timeline.seconds(self.timeline.window) + self.timeline.fade / self.sample_rate

    def hole(self, seconds: float, from_seconds: float, to_seconds: float) -> Hole:
        """Where a hole lies in music of that length, and which window of the music is looked at to fill it.

        Raises:
            ValueError: as `Hole`.
        """
        length, begin, end = (round(value * self.sample_rate) for value in (seconds, from_seconds, to_seconds))
        return Hole(self.timeline, length, begin, end)

    def check_editing(self) -> None:
        """Refuse to go on from music, or to fill a hole, with networks that cannot.

        Raises:
            ValueError: the denoiser takes one angle a clip.
        """
        if not self.denoiser.per_frame_angles:
            raise ValueError(
                f"this {type(self).__name__} cannot continue or inpaint music: its denoiser takes one noise level a "
                "clip (per_frame_angles is False); use one with a dual-path denoiser"
            )

    def _given(self, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b 1 _"]:
        self.check_editing()
        check_music(waveform, "the music given")
        return resample(waveform.float(), sample_rate, self.sample_rate).to(self.device)

    def _own_prompts(self, given: Float[Tensor, "b 1 t"]) -> list[AudioPrompt]:
        return [AudioPrompt(clip, self.sample_rate) for clip in given.split(1)]


def _check_rows(request: Request, given: Tensor) -> None:
    if len(request.prompts) != len(given):
        raise ValueError(
            f"{len(request.prompts)} prompts for {len(given)} clips of music; give one for every clip, or none at all"
        )
