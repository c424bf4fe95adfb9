"""A long latent seen through overlapping windows (MusicCM, arXiv 2404.13358, section 3.3, Algorithm 1)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.diffusion.samplers import FramewiseSampler, Step
from melody_cm.interfaces import Angle, Conditioning, Denoiser
from melody_cm.placement import at_least_fp32
from melody_cm.signal.windows import window_starts, windows_of_blocks

HANN_FLOOR = 0.1


def window_weights(window: int, kind: Literal["ones", "hann"]) -> Float[Tensor, " window"]:
    """How much each frame of a window counts: "ones" as in the paper, or "hann", at least 0.1, for softer seams."""
    if kind == "ones":
        return torch.ones(window)
    return torch.hann_window(window, periodic=False).clamp(min=HANN_FLOOR)


class SharedRestriction(Denoiser):
    """A denoiser of short latents as one of long ones: (b, c, l, ...) of any l from `window` on, one angle a clip.

    The clean latents that the windows predict are fused to the one that is nearest to all of them (weighted least
    squares). All windows see one noisy latent at one angle, so that fusing their velocities is the same and divides by
    nothing. Fresh noise is the sampler's, one canvas for all: noise of each window's own would be averaged away.
    With one window it is the denoiser itself, bit for bit.

    The conditioning has b rows, alike for all windows, or b * n, the n windows of the first clip first.

    Args:
        denoiser: trained on latents of `window` frames.
        window: frames.
        stride: frames from one window to the next; half a window if None.
        weights: see `window_weights`.
        loop: windows go on at the beginning.
        rows: at most so many windows in one call of the denoiser, but one of each clip at least.

    Raises:
        ValueError: in `forward`, a latent shorter than a window, a stride that leaves gaps, an angle a frame, or
            conditions of another number.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        window: int,
        stride: int | None = None,
        weights: Literal["ones", "hann"] = "hann",
        loop: bool = False,
        rows: int = 8,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.window = window
        self.stride = max(1, window // 2) if stride is None else stride
        self.loop = loop
        self.rows = rows
        self.weights = window_weights(window, weights)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        """The velocity (b, c, l, ...) that implies the fused clean latent."""
        if angle.ndim != 1:
            raise ValueError(f"angle has shape {tuple(angle.shape)}, but windows share one angle a clip: (b,)")
        length = noisy_latent.shape[2]
        if not 1 <= self.window <= length:
            raise ValueError(f"a window of {self.window} frames must have at least 1 and at most the music's {length}")
        if not 1 <= self.stride <= self.window:
            raise ValueError(
                f"a stride of {self.stride} frames must be 1 to {self.window}, the window, to leave no gaps"
            )
        starts = window_starts(length, self.window, self.stride, self.loop)
        if len(starts) == 1:
            return self.denoiser(noisy_latent, angle, conditioning)
        frames = (torch.tensor(starts)[:, None] + torch.arange(self.window)) % length
        return self._fuse(noisy_latent, angle, conditioning, frames.to(noisy_latent.device))

    def _fuse(
        self, noisy: Tensor, angle: Float[Tensor, " b"], conditioning: Conditioning, frames: Int[Tensor, "n w"]
    ) -> Tensor:
        """The weighted mean, frame by frame, of the velocities of all windows."""
        weights = self.weights.to(noisy.device)
        total = torch.zeros_like(at_least_fp32(noisy))
        weight = torch.zeros(noisy.shape[2], device=noisy.device)
        for several in torch.arange(len(frames)).split(max(1, self.rows // len(noisy))):
            windows = noisy[:, :, frames[several]].movedim(2, 1)
            velocities = self._velocities(windows, angle, conditioning, several, len(frames))
            for place, velocity in zip(frames[several], velocities.unbind(1), strict=True):
                total.index_add_(2, place, (velocity * _along(weights, noisy)).to(total.dtype))
                weight.index_add_(0, place, weights)
        return total / _along(weight, noisy)

    def sample_blocks(
        self,
        sampler: FramewiseSampler,
        noise: Tensor,
        conditioning: Conditioning,
        angles: Float[Tensor, " num_steps_plus_one"],
        generators: Sequence[torch.Generator],
    ) -> Iterator[Tensor]:
        """What `sampler.sample` makes with this denoiser (but of no loop), from the beginning on, up to rounding.

        A step goes on as far as the next one needs it to: a block waits for about num_steps ** 2 / 2 windows, however
        long the music is.
        """
        noise = at_least_fp32(noise)
        blocks = iter([noise])
        for step in sampler.steps(noise, angles, generators):
            blocks = self._moved(blocks, noise.shape[2], conditioning, sampler, step)
        return blocks

    def _moved(
        self,
        blocks: Iterator[Tensor],
        length: int,
        conditioning: Conditioning,
        sampler: FramewiseSampler,
        step: Step,
    ) -> Iterator[Tensor]:
        """What one step makes of a noisy latent, both in blocks."""
        count, done = len(window_starts(length, self.window, self.stride)), 0
        windows = windows_of_blocks(blocks, length, self.window, self.stride)
        rest = None  # Weighted velocities, and the weights, of frames that the next window sees too.
        while several := list(islice(windows, max(1, self.rows // len(step.angle_from)))):
            noisy, numbers = torch.stack([window for _, _, window in several], 1), torch.arange(len(several)) + done
            velocities = self._velocities(noisy, step.angle_from, conditioning, numbers, count)
            done += len(several)
            # New tensors at once: the next call may write over what a recorded one gave.
            weighted = at_least_fp32(velocities) * _along(self.weights.to(noisy.device), noisy[:, 0])
            for (start, end, window), total in zip(several, weighted.unbind(1), strict=True):
                weight = self.weights.to(window.device, copy=True)
                if rest is not None:
                    total[:, :, : rest[0].shape[2]] += rest[0]
                    weight[: len(rest[1])] += rest[1]
                size = end - start
                fused, rest = total[:, :, :size] / _along(weight[:size], window), (total[:, :, size:], weight[size:])
                own = replace(step, fresh=None if step.fresh is None else step.fresh[:, :, start:end])
                yield sampler.move(window[:, :, :size], fused, own)

    def _velocities(
        self,
        windows: Float[Tensor, "b k c w *axes"],
        angle: Float[Tensor, " b"],
        conditioning: Conditioning,
        several: Int[Tensor, " k"],
        count: int,
    ) -> Tensor:
        """(b, k, c, w, ...) of some of the `count` windows, in one call."""
        rows = _condition_rows(len(conditioning.dropped), len(windows), count, several)
        velocity = self.denoiser(
            windows.flatten(0, 1), angle.repeat_interleave(len(several)), select_rows(conditioning, rows)
        )
        return velocity.unflatten(0, windows.shape[:2])


def select_rows(conditioning: Conditioning, rows: Int[Tensor, " k"]) -> Conditioning:
    """The conditioning of some rows, in that order."""
    rows = rows.to(conditioning.dropped.device)
    sequence, pooled, mask = (
        None if part is None else part[rows] for part in (conditioning.sequence, conditioning.pooled, conditioning.mask)
    )
    # Which rows are dropped is known without looking only where all are, or none.
    known = {len(conditioning.dropped): len(rows), 0: 0}
    num_kept = None if conditioning.num_kept is None else known.get(conditioning.num_kept)
    return Conditioning(sequence, pooled, mask, conditioning.dropped[rows], num_kept)


def _condition_rows(given: int, clips: int, windows: int, several: Int[Tensor, " k"]) -> Int[Tensor, " m"]:
    if given not in (clips, clips * windows):
        raise ValueError(
            f"{given} conditions for {clips} clips of {windows} windows; give one a clip ({clips}) or one a window "
            f"({clips * windows})"
        )
    clip = torch.arange(clips).repeat_interleave(len(several))
    return clip if given == clips else clip * windows + several.repeat(clips)


def _along(frames: Float[Tensor, " l"], latent: Tensor) -> Tensor:
    """One number a frame, shaped to multiply a latent (b, c, l, ...)."""
    return frames.view(-1, *[1] * (latent.ndim - 3))
