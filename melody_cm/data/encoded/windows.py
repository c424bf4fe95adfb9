"""Which parts of a clip are encoded together, and which belong to a crop; all in samples from the clip's start."""

from dataclasses import dataclass
from itertools import pairwise

# Heard on both sides of a window of a long clip, at least: encoders look that far and no farther.
CONTEXT_SECONDS = 0.25


@dataclass(frozen=True)
class Window:
    """A part of a clip.

    Attributes:
        first, last: what the encoder hears.
        begin, end: what is kept of it, for outputs that have frames.
    """

    first: int
    last: int
    begin: int
    end: int


@dataclass(frozen=True)
class Crop:
    """What a training or evaluation step sees of a clip: `length` samples from `start`, of a clip of `clip` samples."""

    start: int
    length: int
    clip: int

    def frames(self, frame_samples: int) -> slice:
        """The frames of an output with frames."""
        first = self.start // frame_samples
        return slice(first, first + -(-self.length // frame_samples))

    def nearest(self) -> int:
        """The window whose one value stands for the crop."""
        starts = [window.first for window in value_windows(self.clip, self.length)]
        return min(range(len(starts)), key=lambda index: abs(starts[index] - self.start))


def frame_windows(clip: int, crop: int, grid: int, sample_rate: int) -> list[Window]:
    """Windows of about a crop's length that cover a clip, each heard with a quarter of a crop on both sides.

    They begin on multiples of `grid`, which all frame sizes divide. A clip no longer than the crop is heard as crops of
    it are: padded to the crop's length.
    """
    if clip <= crop:
        return [Window(0, crop, 0, crop)]
    core = -(-crop // grid) * grid
    context = -(-max(crop // 4, round(CONTEXT_SECONDS * sample_rate)) // grid) * grid
    count = max(1, round(clip / core))  # The last window takes up to half a core more, or less.
    edges = [index * core for index in range(count)] + [clip]
    return [Window(max(0, begin - context), min(clip, end + context), begin, end) for begin, end in pairwise(edges)]


def value_windows(clip: int, crop: int) -> list[Window]:
    """Windows of a crop's length every half crop, and one that ends with the clip."""
    spare = max(0, clip - crop)
    return [Window(start, start + crop, 0, 0) for start in [*range(0, spare, max(1, crop // 2)), spare]]
