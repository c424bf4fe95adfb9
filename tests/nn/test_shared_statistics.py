"""Statistics over two real processes against one that has the whole batch."""

import pytest
import torch
from torch import distributed, multiprocessing, nn

from melody_cm.encoders.masked_prediction import MaskedPrediction
from melody_cm.nn.shared_statistics import SharedBatchNorm1d, share_batch_norms

BATCH = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float32) * 3 + 1
TARGET = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(2))
MASK = torch.tensor(
    [[1, 1, 0, 1, 0], [1, 1, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]]
)
NEGATIVES = torch.randint(0, 5, (6, 5, 4), generator=torch.Generator().manual_seed(3))


def norm():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3))
    share_batch_norms(network)
    return network


def heads():
    torch.manual_seed(0)
    return MaskedPrediction(3, 3, groups=2, entries=4, code_width=4, width=4)


def learnt(rank, processes):
    """Gradients of both networks for this process's share of the batch, averaged over processes as DDP does."""
    share = slice(rank * 6 // processes, (rank + 1) * 6 // processes)
    batch, network, predictor = BATCH[share], norm(), heads()
    loss = (network(batch) - TARGET[share]).square().mean()
    frames = batch.transpose(1, 2)
    found = predictor(frames, frames, MASK[share].bool(), NEGATIVES[share], torch.zeros(len(batch), 5, 2, 4))
    (loss + found.contrastive - found.perplexity).backward()
    gradients = [p.grad for p in [*network.parameters(), *predictor.parameters()]]
    if processes > 1:
        for gradient in gradients:
            distributed.all_reduce(gradient)
    return [gradient / processes for gradient in gradients], list(network.buffers()), found.perplexity.detach()


def work(rank, file):
    distributed.init_process_group("gloo", init_method=f"file://{file}.store", rank=rank, world_size=2)
    result = learnt(rank, 2)
    if rank == 0:
        torch.save(result, file)
    distributed.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path):
    multiprocessing.start_processes(work, (str(tmp_path / "two"),), nprocs=2, start_method="fork")
    two, one = torch.load(tmp_path / "two"), learnt(0, 1)
    for a, b in zip(two[0] + two[1] + [two[2]], one[0] + one[1] + [one[2]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_torchs_own(training):
    torch.manual_seed(0)
    ours, theirs = norm()[1].train(training), nn.BatchNorm1d(3).train(training)
    assert type(ours) is SharedBatchNorm1d
    assert torch.equal(ours(BATCH), theirs(BATCH))
    assert torch.equal(ours.running_var, theirs.running_var)
