"""Forward passes of a clip's generating networks: the papers' formulas, and a counter of the passes that happen.

MeLoDy, arXiv 2305.15719, table 3; docs/melody.md shows the arithmetic.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from melody_cm.interfaces import Denoiser, Network, TokenLM


def melody_passes(seconds: float | int, num_steps: int, semantic_frame_rate: float | int = 25) -> int:
    """MeLoDy: one pass a semantic token, one a sampling step.

    Raises:
        ValueError: no seconds or no steps.
    """
    return _frames(seconds, semantic_frame_rate) + musiccm_passes(num_steps)


def musiclm_passes(
    seconds: float | int,
    semantic_frame_rate: float | int = 25,
    codec_frame_rate: float | int = 50,
    coarse_codebooks: int = 4,
    fine_codebooks: int = 8,
) -> int:
    """MusicLM: one pass a token, semantic, coarse or fine; (25 + 200 + 400) a second with the paper's codec.

    Raises:
        ValueError: no seconds.
    """
    codes = coarse_codebooks + fine_codebooks
    return _frames(seconds, semantic_frame_rate) + codes * _frames(seconds, codec_frame_rate)


def musiccm_passes(num_steps: int) -> int:
    """MusicCM, and latent diffusion without a planner: one pass a sampling step, whatever the length.

    Raises:
        ValueError: no steps.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; sampling takes at least 1 step")
    return num_steps


def saving(passes: float | int, reference: int) -> float:
    """The share of a reference's passes that a system does without."""
    return 1 - passes / reference


def _frames(seconds: float | int, frame_rate: float | int) -> int:
    if not seconds > 0:
        raise ValueError(f"{seconds:g} seconds; a clip is longer than 0")
    return math.ceil(round(seconds * frame_rate, 6))


class PassCounter:
    """Counts the forward passes of named networks while it is entered, e.g. around `pipeline.generate`.

    A pass is a call of a network's `pass_module`. A cached language model makes one a token, the first of which reads
    the whole prompt; a denoiser one a step.

    Args:
        networks: by name, e.g. the `networks` of a pipeline; other modules than `Network` count their own calls.

    Attributes:
        calls: passes by name. Guidance, which asks a denoiser about twice the batch at once, counts one a step.
        rows: batch rows that were passed through, by name: of one clip, guidance counts two a step.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = networks
        self.calls = dict.fromkeys(networks, 0)
        self.rows = dict.fromkeys(networks, 0)
        self._hooks = ExitStack()

    def total(self, counts: Mapping[str, int]) -> int:
        """The sum of `calls` or `rows` over what the papers count: token models and denoisers, not en- or decoders."""
        return sum(counts[name] for name, network in self.networks.items() if isinstance(network, TokenLM | Denoiser))

    def __enter__(self) -> "PassCounter":
        for name, network in self.networks.items():
            module = network.pass_module if isinstance(network, Network) else network
            self._hooks.enter_context(module.register_forward_pre_hook(partial(self._count, name), with_kwargs=True))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hooks.close()

    def _count(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls[name] += 1
        batches = (len(argument) for argument in (*args, *kwargs.values()) if isinstance(argument, Tensor))
        self.rows[name] += next(batches, 0)
