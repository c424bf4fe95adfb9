import cmath

import pytest
import torch

from melody_cm.nn import RoFormerLayer, RotaryAttention, SwiGLU, rotate


def naive_rotation(vector, position):
    """Channel pairs as complex numbers, turned one by one."""
    half = len(vector) // 2
    turned = []
    for i in range(half):
        number = complex(vector[i], vector[half + i]) * cmath.exp(1j * position * 10000 ** (-i / half))
        turned.append(number)
    return torch.tensor([z.real for z in turned] + [z.imag for z in turned], dtype=torch.float64)


def naive_attention(attention, x, source, positions, source_positions, mask=None):
    width, heads = x.shape[-1], attention.num_heads
    key_weight, value_weight = attention.key_value.weight.split(width)
    result = torch.zeros_like(x)
    for r in range(x.shape[0]):
        real = [j for j in range(source.shape[1]) if mask is None or mask[r, j]]
        for n in range(x.shape[1]):
            combined = []
            for h in range(heads):
                part = slice(h * width // heads, (h + 1) * width // heads)
                query = naive_rotation((attention.query.weight[part] @ x[r, n]).tolist(), positions[n])
                keys = [naive_rotation((key_weight[part] @ source[r, j]).tolist(), source_positions[j]) for j in real]
                scores = torch.stack([query @ key for key in keys]) / (width // heads) ** 0.5
                values = torch.stack([value_weight[part] @ source[r, j] for j in real])
                combined.append(scores.softmax(0) @ values)
            result[r, n] = attention.output.weight @ torch.cat(combined)
    return result


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_loops(masked):
    attention = RotaryAttention(8, 2).double()
    x, source = torch.randn(2, 4, 8).double(), torch.randn(2, 5, 8).double()
    positions, source_positions = torch.arange(4.0), (torch.arange(5) + 0.5) * 0.8
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]]) if masked else None
    fast = attention(x, source, positions, source_positions, mask)
    slow = naive_attention(attention, x, source, positions.tolist(), source_positions.tolist(), mask)
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)  # the angles of a rotation are fp32


def test_dot_products_after_rotation_depend_on_distance_alone():
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(first, second):
        return (rotate(query, torch.tensor([first])) * rotate(key, torch.tensor([second]))).sum()

    torch.testing.assert_close(product(3.0, 5.5), product(10.0, 12.5))
    assert abs(product(3.0, 5.5) - product(3.0, 6.5)) > 1e-3


def test_attention_does_not_change_when_all_positions_shift():
    attention = RotaryAttention(16, 2)
    x, source = torch.randn(1, 6, 16), torch.randn(1, 3, 16)
    positions, source_positions = torch.arange(6.0), torch.tensor([1.0, 3.0, 5.0])
    at_zero = attention(x, source, positions, source_positions)
    torch.testing.assert_close(attention(x, source, positions + 7, source_positions + 7), at_zero)
    assert (attention(x, source, positions, source_positions + 7) - at_zero).abs().max() > 1e-3


def test_a_width_that_cannot_be_turned_in_pairs_is_refused():
    with pytest.raises(ValueError, match="width 12 must be divisible by 2 \\* num_heads = 8"):
        RotaryAttention(12, 4)


def test_swiglu_formula():
    layer = SwiGLU(4, 6)
    x = torch.randn(3, 4)
    gate, value = x @ layer.inner.weight[:6].T, x @ layer.inner.weight[6:].T
    torch.testing.assert_close(layer(x), (gate / (1 + torch.exp(-gate)) * value) @ layer.outer.weight.T)


def test_roformer_layer_equals_its_columns_one_by_one():
    layer = RoFormerLayer(8, 2, 12)
    x, tokens = torch.randn(3, 4, 5, 8), torch.randn(2, 6, 8)
    positions, token_positions = torch.arange(5.0), torch.linspace(0, 4, 6)
    result = layer(x, tokens, None, token_positions)
    for clip in range(3):
        for column in range(4):
            y = x[clip : clip + 1, column]
            y = y + layer.self_attention(layer.norms[0](y), layer.norms[0](y), positions, positions)
            y = y + layer.feedforwards[0](layer.norms[1](y))
            query = layer.norms[2](y)
            if clip < 2:
                y = y + layer.cross_attention(query, tokens[clip : clip + 1], positions, token_positions)
            else:  # no tokens: the same weights attend to the column itself
                y = y + layer.cross_attention(query, query, positions, positions)
            y = y + layer.feedforwards[1](layer.norms[3](y))
            torch.testing.assert_close(result[clip, column], y[0], atol=1e-5, rtol=1e-5)
