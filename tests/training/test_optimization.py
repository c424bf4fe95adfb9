import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.training.ema import averaged_copy, update_average, warmed_decay
from melody_cm.training.optimization import Optimization


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine():
    optimization = Optimization(learning_rate=2e-3, warmup_steps=4, final_ratio=0.1)
    assert [optimization.scale(step, 24) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    for step in range(4, 24):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 4) / 20)) / 2
        assert optimization.scale(step, 24) == pytest.approx(expected)
    assert optimization.scale(24, 24) == pytest.approx(0.1)


def test_the_optimizer_gets_only_what_learns():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer, _ = Optimization().build(network.parameters(), total_steps=10)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_weights_decay_and_biases_gains_and_vectors_do_not():
    conv = weight_norm(nn.Conv2d(3, 4, (1, 5)))
    network = nn.ModuleDict({"conv": conv, "norm": nn.LayerNorm(6), "linear": nn.Linear(6, 2)})
    optimizer, _ = Optimization(weight_decay=0.3).build(network.parameters(), total_steps=10)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decaying = {name for name, parameter in network.named_parameters() if decay[id(parameter)] == 0.3}
    assert decaying == {"conv.parametrizations.weight.original1", "linear.weight"}
    assert sorted(set(decay.values())) == [0.0, 0.3]


def test_one_update_of_an_average_is_the_weighted_mean():
    network, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    other.load_state_dict(network.state_dict())
    average = averaged_copy(other)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([2.0, 3.0, 4.0]))
        network.num_batches_tracked += 5
    before = average.weight.clone()
    update_average(average, network, decay=0.95)
    torch.testing.assert_close(average.weight, 0.95 * before + 0.05 * network.weight)
    assert int(average.num_batches_tracked) == 5, "integers are copied, not averaged"
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_the_decay_starts_low_and_never_exceeds_its_limit():
    assert warmed_decay(0.999, 0) == pytest.approx(0.1)
    assert warmed_decay(0.999, torch.tensor(10)) == pytest.approx(11 / 20)
    assert warmed_decay(0.9, 10**6) == 0.9
