"""Codes of any length: the model sees a window that slides over what it made (MusicLM, arXiv 2301.11325)."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil, lcm

import torch
from jaxtyping import Int
from torch import Tensor

from melody_cm.interfaces import TokenLM
from melody_cm.language_models.decoding import check_sampling


def sample_long(
    model: TokenLM,
    prompt: Mapping[str, Int[Tensor, "b _ _"]],
    length: int,
    hop: int,
    generators: Sequence[torch.Generator],
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[Tensor]:
    """`length` frames of the model's last stream, in pieces (b, q, l) of which only the newest are remembered.

    The first piece fills the model's window and is what `sample` makes; each later one adds `hop` frames (the last one
    what is left) after the frames before it that fit into the window beside them. Every token costs one network call.

    Args:
        prompt: the streams before the last one. Those with a frame rate run along with the music: each window sees its
            own part of them; those without (one frame a clip) are seen whole.
        hop: frames by which the window moves; a small one remembers more and costs as many network calls.
        generators: row i is drawn with generator i alone.

    Raises:
        ValueError: no length, a hop that the window does not hold, or a stream of the prompt too short for the length;
            before anything is made.
    """
    check_sampling(temperature, top_k, top_p)
    rates = _relative_rates(model)
    step, longest = _step(rates), longest_hop(model)
    if length < 1 or not 1 <= hop <= longest:
        raise ValueError(
            f"{length} frames asked for in hops of {hop}; give at least 1 frame and a hop of 1 to {longest}, for the "
            f"model's window has {model.max_frames}"
        )
    for name, rate in rates.items():
        if prompt[name].shape[2] < ceil(length * rate):
            raise ValueError(
                f"stream {name!r} has {prompt[name].shape[2]} frames, but {length} frames asked for need "
                f"{ceil(length * rate)} of it; make that stream longer first"
            )

    def pieces() -> Iterator[Tensor]:
        head = min(length, model.max_frames)
        made = model.sample(_part(prompt, rates, 0, head), head, generators, temperature, top_k, top_p)
        yield made
        first, last = 0, head
        while last < length:
            new = min(hop, length - last)
            start = -(-max(0, last + new - model.max_frames) // step) * step
            made = made[..., start - first :]
            window = _part(prompt, rates, start, last + new)
            made = torch.cat([made, model.extend(window, made, new, generators, temperature, top_k, top_p)], dim=2)
            yield made[..., -new:]
            first, last = start, last + new

    return pieces()


def longest_hop(model: TokenLM) -> int:
    """The frames by which a model's window can move at most, so that it begins where all streams begin a frame."""
    return model.max_frames - _step(_relative_rates(model)) + 1


def _step(rates: Mapping[str, Fraction]) -> int:
    """Every so many frames of the target, all streams begin one."""
    return lcm(*(rate.denominator for rate in rates.values()))


def _part(prompt: Mapping[str, Tensor], rates: Mapping[str, Fraction], first: int, last: int) -> dict[str, Tensor]:
    """What frames `first` to `last` of the target see of each stream."""
    cut = {name: prompt[name][..., int(first * rate) : ceil(last * rate)] for name, rate in rates.items()}
    return {**prompt, **cut}


def _relative_rates(model: TokenLM) -> dict[str, Fraction]:
    """Frames of each running stream for one frame of the target."""
    *given, target = model.frame_rates
    own = model.frame_rates[target]
    if not own:
        return {}
    rates = {name: model.frame_rates[name] for name in given}
    return {name: Fraction(rate) / Fraction(own) for name, rate in rates.items() if rate}
