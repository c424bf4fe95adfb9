import itertools
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from melody_cm.data import TrainingOrder
from melody_cm.data.order import evaluation_batches
from melody_cm.randomness import keyed_generator

ITEMS, BATCH, BATCHES = 7, 4, 12


class Keys(Dataset):
    """Gives back the keys it is asked for."""

    def __getitem__(self, key):
        return torch.tensor(key)


def loader(first_batch, num_workers, rank=0, num_processes=1):
    order = TrainingOrder(ITEMS, BATCH, 3, lambda: first_batch, rank, num_processes)
    return DataLoader(Keys(), batch_sampler=order, num_workers=num_workers, generator=torch.Generator())


def consume(first_batch, count, num_workers, num_processes):
    """`count` batches of all processes together, each a list of (epoch, item)."""
    shares = [
        list(itertools.islice(loader(first_batch, num_workers, rank, num_processes), count))
        for rank in range(num_processes)
    ]
    return [torch.cat(parts).tolist() for parts in zip(*shares, strict=True)]


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize(("num_workers", "kills"), [(0, range(BATCHES)), (2, (1, 7))])
def test_whoever_is_killed_goes_on_with_the_batch_after_the_last_consumed(num_workers, kills, num_processes):
    whole = consume(0, BATCHES, 0, 1)
    first = torch.randperm(ITEMS, generator=keyed_generator(3, "order", 0, 0))
    assert whole[0] == [[0, int(item)] for item in first[:BATCH]]
    for kill in kills:
        before = consume(0, kill, num_workers, num_processes)
        after = consume(kill, BATCHES - kill, num_workers, num_processes)
        assert before + after == whole, kill


def test_a_resumed_stream_may_have_other_workers_and_processes():
    whole = consume(0, BATCHES, 0, 1)
    assert consume(0, 3, 2, 1) + consume(3, 4, 0, 4) + consume(7, 5, 0, 2) == whole


def test_a_position_far_ahead_costs_one_permutation(monkeypatch):
    drawn = []
    real = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *args, **options: drawn.append(args) or real(*args, **options))
    order = TrainingOrder(1000, 8, 0, lambda: 125 * 1000 + 3)
    batch = next(iter(order))
    assert {epoch for epoch, _ in batch} == {1000}
    assert len(drawn) == 1


def test_a_permutation_is_kept_as_an_array_of_numbers_that_workers_can_be_sent():
    order = TrainingOrder(50_000, 8, 0)
    batch = next(iter(order))
    assert all(type(number) is int for key in batch for number in key)
    assert isinstance(order._known[1], np.ndarray)
    assert sys.getsizeof(order._known[1]) + order._known[1].nbytes < 50_000 * 9


def test_every_process_has_its_share_of_evaluation():
    parts = [evaluation_batches(range(10, 21), 4, rank, 2) for rank in (0, 1)]
    assert [[item for _, item in batch] for batch in parts[0]] == [[10, 12], [14, 16], [18, 20]]
    assert [[item for _, item in batch] for batch in parts[1]] == [[11, 13], [15, 17], [19]]
    assert [len(evaluation_batches(range(10, 21), 4, rank, 2)) for rank in (0, 1)] == [3, 3]
