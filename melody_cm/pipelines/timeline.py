"""Where samples, latent frames and semantic codes lie in long music: integers alone, so that nothing ever drifts."""

import math
from dataclasses import dataclass
from fractions import Fraction

FADE_SECONDS = 0.02


@dataclass(frozen=True)
class Timeline:
    """The clocks of a system that plans codes and makes latents.

    Attributes:
        sample_rate: Hz.
        hop_length: samples a latent frame.
        code_rate: semantic codes a second (Hz).
        max_seconds: the length that the networks were trained on.
        num_chunks: pieces of that length which have noise levels of their own.
    """

    sample_rate: int
    hop_length: int
    code_rate: float
    max_seconds: float
    num_chunks: int

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
