"""Cutting sequences to length and into half-overlapping segments, and putting them together again.

The segments are those of dual-path networks (MeLoDy, arXiv 2305.15719, section 4.2).
"""

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor


def fit_length(x: Shaped[Tensor, "*leading t"], length: int) -> Shaped[Tensor, "*leading length"]:
    """The first `length` samples of the last axis, with zeros at the end where there are fewer."""
    return F.pad(x, (0, length - x.shape[-1]))


def pad_to_multiple(x: Shaped[Tensor, "*leading t"], multiple: int) -> Shaped[Tensor, "*leading padded"]:
    """The last axis, with zeros at the end up to the next multiple."""
    return F.pad(x, (0, -x.shape[-1] % multiple))


def num_segments(length: int, segment_length: int) -> int:
    """How many half-overlapping segments cover every frame of a sequence exactly twice."""
    return -(-2 * length // segment_length) + 1


def segment(x: Float[Tensor, "b l d"], segment_length: int) -> Float[Tensor, "b s k d"]:
    """Half-overlapping segments of k = `segment_length` frames; every frame lies in exactly two of them.

    The sequence is padded by k/2 zeros on the left and as many on the right as s = ceil(2l/k) + 1 segments need.

    Raises:
        ValueError: the segment length is odd or not positive.
    """
    _check_segment_length(segment_length)
    hop = segment_length // 2
    padded_length = (num_segments(x.shape[1], segment_length) + 1) * hop
    padded = F.pad(x, (0, 0, hop, padded_length - hop - x.shape[1]))
    return padded.unfold(1, segment_length, hop).transpose(2, 3)


def overlap_add(segments: Float[Tensor, "b s k d"], length: int) -> Float[Tensor, "b l d"]:
    """The sum of half-overlapping segments, without the padding: `overlap_add(segment(x, k), l) / 2 == x`.

    Raises:
        ValueError: the number of segments is not the one that `segment` makes of `length` frames.
    """
    batch, count, segment_length, width = segments.shape
    _check_segment_length(segment_length)
    if count != num_segments(length, segment_length):
        raise ValueError(
            f"{count} segments of {segment_length} frames cannot be a sequence of {length} frames: that has "
            f"{num_segments(length, segment_length)}; give the length that was segmented"
        )
    hop = segment_length // 2
    first, second = segments.split(hop, dim=2)
    # Half-frame i of the padded sequence is the first half of segment i and the second half of segment i - 1.
    halves = F.pad(first, (0, 0, 0, 0, 0, 1)) + F.pad(second, (0, 0, 0, 0, 1, 0))
    return halves.reshape(batch, (count + 1) * hop, width)[:, hop : hop + length]


def _check_segment_length(segment_length: int) -> None:
    if segment_length < 2 or segment_length % 2:
        raise ValueError(f"segment length {segment_length} must be even and at least 2 frames; use e.g. 64")
