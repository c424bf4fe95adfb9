"""Two processes with unequal shares, one of them without some, give the results of one process."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from melody_cm.evaluation import (
    SISNR,
    EmbeddingStatistics,
    RetrievalRecall,
    frechet_score,
    kernel_score,
)
from melody_cm.interfaces import EmbeddingIdentity

REPOSITORY = Path(__file__).resolve().parents[2]
IDENTITY = EmbeddingIdentity("test", "1", "none", 16000, "any", 8, False)
SHARES = [slice(0, 700), slice(700, 1001)]


def scores(clips, real, alone):
    """Every metric over a share of 1001 generated clips and 50 real ones; `alone` gets what only one process has."""
    generator = torch.Generator().manual_seed(0)
    generated, reference = (torch.randn(n, 2, 8, generator=generator) for n in (1001, 50))
    names = [f"clip{index}" for index in range(1001)]
    sides = [EmbeddingStatistics.empty(8, max_clips=100) for _ in range(2)]
    sides[0].add(generated[clips] + 3, names[clips])
    sides[1].add(reference[real], [f"real{index}" for index in range(50)][real])
    sisnr = SISNR()
    sisnr.update(generated[clips], generated[clips] + 1)
    if alone:
        sides[1].drop("silent", "a.wav: silent")
    sides = [side.over_processes() for side in sides]
    assert sides[1].dropped == {"silent": ["a.wav: silent"]}
    computed = {"frechet": frechet_score(*sides, IDENTITY), "kernel": kernel_score(*sides, IDENTITY)}
    recall = RetrievalRecall(1001, 8)
    recall.update(range(1001)[clips], generated[clips, 0], generated[clips, 1], names[clips])
    computed["sisnr"] = sisnr.compute()
    return {"recall": recall.compute(), **{name: asdict(score) for name, score in computed.items()}}


def main(rank, folder):
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    found = scores(SHARES[rank], [slice(0, 20), slice(20, 50)][rank], alone=rank == 0)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes say, of which this one is the first."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, __file__, "1", str(folder)]
    other = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    main(0, folder)
    assert other.wait(timeout=120) == 0
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_both_processes_say_the_same_as_one_alone(both):
    one = scores(slice(0, 1001), slice(0, 50), alone=True)
    assert both[0] == both[1]
    assert both[0].pop("recall") == pytest.approx(one.pop("recall"), abs=1e-6)
    for name, score in one.items():
        found = both[0][name]
        for number in ("value", "corrected", "low", "high"):
            assert found[number] == (None if score[number] is None else pytest.approx(score[number], abs=1e-10)), name
        for fact in ("n_generated", "n_reference", "too_few", "dropped", "warnings"):
            assert found[fact] == score[fact], name
        assert found["details"] == pytest.approx(score["details"], abs=1e-10)
    assert one["frechet"]["n_generated"] == 1001
    assert one["frechet"]["dropped"]["reference"] == {"silent": 1}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
