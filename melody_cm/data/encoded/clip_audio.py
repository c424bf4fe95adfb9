"""A clip's sound as the encoders hear it: in memory where it is short, by seeking where it is long."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data.audio_files import AudioProblem, audio_info, read_audio
from melody_cm.data.clips import Clip
from melody_cm.signal import fit_length

IN_MEMORY_SECONDS = 120.0


class ClipAudio:
    """The samples of a clip at a sample rate.

    A stretch of silence in a long clip is music like any other; a clip that is silent as a whole is bad.

    Args:
        clip: what is read.
        sample_rate: Hz.
        at_most: seconds from the clip's start; None for all of it.

    Attributes:
        length: samples of the clip, as far as it is read.

    Raises:
        AudioProblem: the clip is bad.
    """

    def __init__(self, clip: Clip, sample_rate: int, at_most: float | None) -> None:
        self.clip = clip
        self.sample_rate = sample_rate
        seconds = min(clip_seconds(clip), float("inf") if at_most is None else at_most)
        self.heard = seconds <= max(IN_MEMORY_SECONDS, at_most or 0.0)
        self._samples = read_audio(clip.audio, clip.start, seconds, sample_rate) if self.heard else None
        if self._samples is not None:
            self.length = len(self._samples)
        else:
            available = audio_info(clip.audio).seconds - clip.start
            self.length = round(min(seconds, available) * sample_rate)

    def part(self, first: int, last: int) -> Float[Tensor, "1 t"]:
        """Samples first .. last - 1, zeros beyond the end.

        Raises:
            AudioProblem: this part is bad.
        """
        samples = self._read(first, last) if self._samples is None else self._samples[first:last]
        return fit_length(samples, last - first)[None]

    def refuse_silence(self) -> None:
        """AudioProblem if nothing could be heard in all parts that were read."""
        if not self.heard:
            raise AudioProblem(f"{self.clip.audio}: silent from beginning to end", "silent")

    def _read(self, first: int, last: int) -> Float[Tensor, " t"]:
        start = round(self.clip.start * self.sample_rate) + first
        count = min(last, self.length) - first
        try:
            samples = read_audio(self.clip.audio, start / self.sample_rate, count / self.sample_rate, self.sample_rate)
        except AudioProblem as problem:
            if problem.reason != "silent":
                raise
            return torch.zeros(count)
        self.heard = True
        return samples


def clip_seconds(clip: Clip) -> float:
    """What the clip's row says, else what the file's header says.

    Raises:
        AudioProblem: there is no such file, or it is no sound file.
    """
    return audio_info(clip.audio).seconds - clip.start if clip.duration is None else clip.duration
