"""LLaMA token by token for sampling: keys and values in one block of memory, matrices of one input multiplied at once.

The arithmetic is that of transformers' `LlamaModel`, whose weights it reads; between the matrix products all is fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.nn.quantized import Map, linear_map


@dataclass
class Layer:
    """One block: the maps to queries, keys and values, from heads, to gate and up, and down; and its two norms."""

    qkv: Map
    out: Map
    gate_up: Map
    down: Map
    attention_norm: Tensor
    feedforward_norm: Tensor


@dataclass
class Past:
    """What was read so far: `length` tokens, whose keys and values (layer, 2, b, head, place, e) are remembered.

    `turns`: cosine and signed sine (2, place, e) of every place's rotation.
    """

    layers: list[Layer]
    memory: Tensor
    turns: Tensor
    length: int = 0


class CachedLlama(nn.Module):
    """A body of transformers, which stays the owner of the weights, that reads tokens after those that it has read;
    each call is a forward pass."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self._body = (body,)  # In a tuple, so that its weights do not get a second name.
        self._packed: tuple[object, list[Layer]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies pack their own weights."""
        return self.__dict__ | {"_packed": None}

    def begin(self, batch_size: int, places: int, quantization: str | None) -> Past:
        """Get ready for `places` tokens in each of `batch_size` rows, with the weights as they are now.

        Raises:
            ValueError: no such quantization on the weights' device.
        """
        (body,) = self._body
        layers = self._quantized(quantization) if quantization else self._prepared(None)
        config, weight = body.config, body.embed_tokens.weight
        heads = config.num_attention_heads
        # On a CPU, attention over keys in half precision takes five times as long.
        kept = torch.float32 if weight.device.type == "cpu" else weight.dtype
        shape = (len(layers), 2, batch_size, heads, places, config.hidden_size // heads)
        memory = torch.empty(shape, dtype=kept, device=weight.device)
        positions = torch.arange(places, device=weight.device)[None]
        cosine, sine = (turn[0] for turn in body.rotary_emb(weight.new_empty(0, dtype=torch.float32), positions))
        left, right = sine.chunk(2, dim=-1)
        return Past(layers, memory, torch.stack([cosine, torch.cat([-left, right], dim=-1)]))

    def forward(self, tokens: Int[Tensor, "b n"], past: Past) -> Float[Tensor, "b d"]:
        """The hidden state (fp32) of the last of `tokens`, which follow what is past."""
        (body,) = self._body
        first, past.length = past.length, past.length + tokens.shape[1]
        turns = past.turns[:, first : past.length, None, None]
        mask = None
        if tokens.shape[1] > 1:
            mask = torch.ones(tokens.shape[1], past.length, dtype=torch.bool, device=tokens.device).tril(first)
        x = body.embed_tokens(tokens).float()
        for layer, memory in zip(past.layers, past.memory, strict=True):
            projected = layer.qkv(self._norm(x, layer.attention_norm)).unflatten(-1, (3, memory.shape[2], -1))
            turned = _rotate(projected[:, :, :2], *turns)
            memory[0, :, :, first : past.length] = turned[:, :, 1].transpose(1, 2)
            memory[1, :, :, first : past.length] = projected[:, :, 2].transpose(1, 2)
            keys, values = memory[..., : past.length, :]
            queries = turned[:, :, 0].transpose(1, 2).to(keys.dtype)
            heard = F.scaled_dot_product_attention(queries, keys, values, mask)
            x = x + layer.out(heard.transpose(1, 2).flatten(2).float())
            gate, up = layer.gate_up(self._norm(x, layer.feedforward_norm)).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate).mul_(up))
        return self._norm(x[:, -1], body.norm.weight.float())

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self._body[0].config.rms_norm_eps)

    def _quantized(self, quantization: str) -> list[Layer]:
        """The packed weights, kept until the weights that they were made from change."""
        (body,) = self._body
        made_from = quantization, [(weight.data_ptr(), weight._version) for weight in body.parameters()]
        if self._packed is None or self._packed[0] != made_from:
            self._packed = None  # Before the others take memory.
            self._packed = made_from, self._prepared(quantization)
        return self._packed[1]

    def _prepared(self, quantization: str | None) -> list[Layer]:
        def together(*layers: nn.Linear) -> Map:
            weights = [layer.weight for layer in layers]
            return linear_map(torch.cat(weights) if quantization else joined(weights), quantization)

        return [
            Layer(
                qkv=together(one.self_attn.q_proj, one.self_attn.k_proj, one.self_attn.v_proj),
                out=together(one.self_attn.o_proj),
                gate_up=together(one.mlp.gate_proj, one.mlp.up_proj),
                down=together(one.mlp.down_proj),
                attention_norm=one.input_layernorm.weight.float(),
                feedforward_norm=one.post_attention_layernorm.weight.float(),
            )
            for one in self._body[0].layers
        ]


def joined(weights: Sequence[Float[Tensor, "_ i"]]) -> Float[Tensor, "o i"]:
    """Matrices of one width below each other, of which each becomes a part, so that none takes memory twice."""
    first, rows = weights[0].detach(), sum(len(weight) for weight in weights)
    ends = [first.storage_offset() + sum(each.numel() for each in weights[:i]) for i in range(len(weights))]
    storages = {weight.untyped_storage().data_ptr() for weight in weights}
    plain = type(first) is Tensor  # Wrappers such as DTensor have no memory of their own.
    if plain and len(storages) == 1 and [weight.storage_offset() for weight in weights] == ends:
        return first.as_strided((rows, first.shape[1]), (first.shape[1], 1))
    whole = torch.cat([weight.detach() for weight in weights])
    if not plain:
        return whole
    for weight, part in zip(weights, whole.split([len(weight) for weight in weights]), strict=True):
        weight.data = part
    return whole


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions: component i and i + e/2 are turned together."""
    return torch.addcmul(x * cosine, x.roll(x.shape[-1] // 2, -1), sine)
