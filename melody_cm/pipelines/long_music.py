"""Music beyond the trained length: codes and latent grow in step, chunk by chunk (arXiv 2305.15719, Algorithm 2)."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.diffusion import Continuation
from melody_cm.interfaces import Conditioner, TokenLM
from melody_cm.pipelines.request import Request, Stopwatch
from melody_cm.pipelines.timeline import Timeline


@dataclass
class Past:
    """Where music stands: the last of its codes and of its latent, as much as the next window can use.

    Attributes:
        codes: (b, 1, n) semantic codes.
        latent: (b, c, k).
        num_codes, num_frames: made so far, counted from the beginning; those above are the last of them.
    """

    codes: Int[Tensor, "b 1 n"]
    latent: Float[Tensor, "b c k"]
    num_codes: int
    num_frames: int


@dataclass
class LongMusic:
    """One batch of music that goes on for as long as it is asked to, in memory that does not depend on its length.

    Each chunk takes one step of the language model and one sampling of the window: the codes it lacks, then the latent
    frames. The window's codes are the last that its frames need, so that codes and frames never drift apart.

    Attributes:
        semantic_lm: extends the codes after what it still sees of them, and the prompt.
        conditioner: takes the codes of the window.
        continuation: extends the latent.
        prompt: (b, q, 1) codes.
        past: grows with the music.
    """

    timeline: Timeline
    semantic_lm: TokenLM
    conditioner: Conditioner
    continuation: Continuation
    request: Request
    prompt: Int[Tensor, "b q 1"]
    past: Past
    stopwatch: Stopwatch

    def latents(self, num_frames: int) -> Iterator[Float[Tensor, "b c _"]]:
        """Finished latent frames, one piece after another, until there are at least `num_frames` new ones."""
        last = self.past.num_frames + num_frames
        for window in itertools.count():
            if self.past.num_frames >= last:
                return
            kept = self.continuation.num_kept(self.past.latent.shape[-1])
            end = self.past.num_frames + self.continuation.window - kept
            with self.stopwatch.part("planner"):
                self._plan(end, window)
            with self.stopwatch.part("denoiser"):
                frames = self._sample(window)
            self.past.num_frames = end
            yield frames

    def _plan(self, end: int, window: int) -> None:
        """Codes up to latent frame `end`."""
        past = self.past
        new = self.timeline.codes(end) - past.num_codes
        generators = self.request.generators("token sampling", window)
        codes = self.semantic_lm.extend({"prompt": self.prompt}, past.codes, new, generators)
        past.codes = torch.cat([past.codes, codes], dim=-1)[..., -self.timeline.codes(self.continuation.window) :]
        past.num_codes += new

    def _sample(self, window: int) -> Float[Tensor, "b c _"]:
        past, continuation = self.past, self.continuation
        shape = (past.latent.shape[1], continuation.window)
        frames = continuation.next_frames(
            past.latent,
            self.request.noise(shape, past.latent.device, window),
            self.conditioner.embed(past.codes),
            self.request.generators("sampler", window),
        )
        past.latent = torch.cat([past.latent, frames], dim=-1)[..., -continuation.window :]
        return frames
