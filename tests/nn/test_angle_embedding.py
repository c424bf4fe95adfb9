import math

import torch

from melody_cm.nn import MLP, AngleEmbedding


def test_slerp_starts_at_clean_and_ends_at_noise():
    embedding = AngleEmbedding(6, 8)
    torch.testing.assert_close(embedding.slerp(torch.zeros(2)), embedding.start.expand(2, 6))
    torch.testing.assert_close(embedding.slerp(torch.tensor([math.pi / 2])), embedding.end[None])
    third = embedding.slerp(torch.tensor(math.pi / 3))
    torch.testing.assert_close(third, 0.5 * embedding.start + math.sqrt(0.75) * embedding.end)


def test_angles_may_be_one_a_clip_or_one_a_frame():
    embedding = AngleEmbedding(6, 8)
    angle = torch.rand(3)
    per_clip = embedding(angle)
    assert per_clip.shape == (3, 8)
    torch.testing.assert_close(embedding(angle[:, None].expand(3, 5)), per_clip[:, None].expand(3, 5, 8))


def test_angles_in_double_precision_give_weights_precision():
    assert AngleEmbedding(6, 8)(torch.rand(2, dtype=torch.float64)).dtype == torch.float32


def test_mlp_formula():
    mlp = MLP(3, 5)
    first, _, second, norm = mlp.layers
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(4, 3)
    hidden = x @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    y = hidden @ second.weight.T + second.bias
    expected = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(mlp(x), expected)
