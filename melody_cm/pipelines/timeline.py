"""Where samples, latent frames, codes and holes lie in music, in whole numbers, so that nothing ever drifts."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from melody_cm.pipelines.streaming import cross_fade

FADE_SECONDS = 0.02


@dataclass(frozen=True)
class Timeline:
    """The clocks of a system that plans codes and makes latents."""

    sample_rate: int  # Hz.
    hop_length: int  # Samples a latent frame.
    code_rate: float  # Semantic codes a second (Hz).
    max_seconds: float  # The length that the networks were trained on.
    num_chunks: int  # Pieces of that length which have noise levels of their own.

    @property
    def window(self) -> int:
        """Latent frames of the trained length."""
        return round(self.max_seconds * self.sample_rate) // self.hop_length

    @property
    def chunk(self) -> int:
        """Latent frames of the last of its chunks, which end at floor(m * window / num_chunks)."""
        return -(-self.window // self.num_chunks)

    @property
    def fade(self) -> int:
        """Samples of a cross-fade, 20 ms."""
        return round(FADE_SECONDS * self.sample_rate)

    def codes(self, frames: int) -> int:
        """How many codes it takes to cover the first `frames` latent frames: at 10 frames a code, 5 take 1, 15 take 2.

        The codes of a stretch of music are those of its end less those of its start. So where a chunk is 62.5 codes
        long, chunks get 63 and 62 of them in turn.
        """
        return math.ceil(self._codes(frames))

    def whole_codes(self, frames: int) -> int:
        """How many codes lie wholly within the first `frames` latent frames."""
        return math.floor(self._codes(frames))

    def frames(self, samples: int) -> int:
        """How many latent frames it takes to cover that many samples."""
        return -(-samples // self.hop_length)

    def seconds(self, frames: int) -> float:
        """The length of that many latent frames."""
        return frames * self.hop_length / self.sample_rate

    def _codes(self, frames: int) -> Fraction:
        rate = Fraction(self.code_rate).limit_denominator(10**6)
        return frames * self.hop_length * rate / self.sample_rate


@dataclass(frozen=True)
class Hole:
    """Samples `begin` up to `end` of music of `length` samples, to be made anew (arXiv 2305.15719, appendix C).

    The 20 ms on either side, where new and given sound are cross-faded, are made anew too. Nothing of what was in the
    hole is used. A ValueError for no such place in the music, too long a hole, or too little music around it.
    """

    timeline: Timeline
    length: int
    begin: int
    end: int

    def __post_init__(self) -> None:
        rate, chunk = self.timeline.sample_rate, self.timeline.chunk * self.timeline.hop_length
        if not 0 <= self.begin < self.end <= self.length:
            raise ValueError(
                f"a hole from {self.begin / rate:g} s to {self.end / rate:g} s does not lie in music of "
                f"{self.length / rate:g} s; give --from below --to, both within the music"
            )
        size = min(self.length, self.timeline.window * self.timeline.hop_length)
        longest = size - chunk - 2 * self.timeline.fade
        if self.end - self.begin > longest:
            raise ValueError(
                f"a hole of {(self.end - self.begin) / rate:g} s is too long: of the {size / rate:g} s that are looked "
                f"at, one chunk of {chunk / rate:g} s must be known; the hole may have {max(0, longest) / rate:g} s"
            )

    @property
    def window(self) -> slice:
        """The samples that are looked at: the trained length with the hole in its middle, as far as there is music."""
        size = self.timeline.window * self.timeline.hop_length
        start = max(0, min((self.begin + self.end - size) // 2, self.length - size))
        return slice(start, min(self.length, start + size))

    def within_window(self) -> "Hole":
        """The same hole, counted from the beginning of the window; its window is all there is."""
        start, stop, _ = self.window.indices(self.length)
        return Hole(self.timeline, stop - start, self.begin - start, self.end - start)

    @property
    def frames(self) -> tuple[int, int]:
        """The first latent frame that is made anew, and the first after it that is not."""
        fade = self.timeline.fade
        last = min(self.timeline.frames(self.length), self.timeline.frames(self.end + fade))
        return max(0, (self.begin - fade) // self.timeline.hop_length), last

    @property
    def codes(self) -> tuple[int, int]:
        """The first semantic code that touches those frames, and the first after it that does not."""
        first, last = self.frames
        return self.timeline.whole_codes(first), self.timeline.codes(last)

    def known_frames(self) -> Bool[Tensor, " l"]:
        """True at the latent frames that are given."""
        known = torch.ones(self.timeline.frames(self.length), dtype=torch.bool)
        known[slice(*self.frames)] = False
        return known

    def emptied(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 t"]:
        """The music with silence in the hole."""
        empty = waveform.clone()
        empty[..., self.begin : self.end] = 0
        return empty

    def around(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 _"]:
        """The music before and after the hole, joined."""
        return torch.cat([waveform[..., : self.begin], waveform[..., self.end :]], dim=-1)

    def fill(self, given: Float[Tensor, "b 1 t"], new: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 t"]:
        """`new` in the hole, cross-faded on either side; beyond that the samples given, bit for bit."""
        time, fade = torch.arange(self.length), self.timeline.fade
        rise, fall = (time - (self.begin - fade) + 1) / (fade + 1), (self.end + fade - time) / (fade + 1)
        return cross_fade(given, new, torch.minimum(rise, fall).clamp(0, 1))
