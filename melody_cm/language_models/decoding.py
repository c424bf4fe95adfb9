"""Drawing the next token: temperature, top-k and top-p, then one uniform number a row."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Refuse what is no way to sample.

    Raises:
        ValueError: temperature not above 0, top_k below 0, or top_p outside (0, 1].
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature:g} must be above 0; top_k=1 always takes the likeliest token")
    if top_k < 0:
        raise ValueError(f"top_k {top_k} must be 0 (keep all) or more")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p:g} must lie in (0, 1]; 1 keeps all")


def probabilities(logits: Float[Tensor, "b v"], temperature: float, top_k: int, top_p: float) -> Float[Tensor, "b v"]:
    """The distribution to draw from, fp64.

    Of the tempered logits, the `top_k` largest are kept (0: all), then the fewest likeliest of these whose share
    reaches `top_p`.
    """
    ranked, order = (logits.double() / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k:
        ranked[:, top_k:] = -torch.inf
    ranked = ranked.softmax(dim=-1)
    mass_before = ranked.cumsum(dim=-1) - ranked
    kept = ranked.masked_fill(mass_before >= top_p, 0.0)
    return torch.zeros_like(kept).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


def draw(probabilities: Float[Tensor, "b v"], uniform: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """One token a row by inverting the cumulative distribution at a number in [0, 1)."""
    cumulative = probabilities.cumsum(dim=-1)
    height = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, height, right=True)[:, 0]


def uniform_rows(generators: Sequence[torch.Generator], count: int) -> Float[Tensor, "b count"]:
    """Uniform numbers in [0, 1), fp64 on the CPU, row i from generator i alone."""
    rows = torch.empty(len(generators), count, dtype=torch.float64)
    for row, generator in zip(rows, generators, strict=True):
        row.copy_(torch.rand(count, generator=generator, dtype=torch.float64))
    return rows
