"""Which process is the first of all, and what the others do without it."""

import queue
import threading

import pytest

from melody_cm.runs import processes
from melody_cm.runs.processes import RANKS, is_first_process, locked, one_training


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),  # Lightning's own child.
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),  # torchrun.
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # The first of torchrun's second node.
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, False),  # srun, two tasks: LOCAL_RANK is not set.
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}, False),
        ({"OMPI_COMM_WORLD_RANK": "3"}, False),
        ({"NODE_RANK": "1"}, False),  # Lightning on a second machine.
    ],
)
def test_the_first_process_is_first_in_every_rank(monkeypatch, environment, first):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first


@pytest.mark.parametrize("value", ["all", ""])
def test_a_rank_that_is_no_number_is_named(monkeypatch, value):
    monkeypatch.setenv("SLURM_PROCID", value)
    with pytest.raises(ValueError, match=f"SLURM_PROCID is '{value}', not the number of a process"):
        is_first_process()


def test_other_processes_share_the_lock_of_the_first_and_it_leaves_no_file(tmp_path, monkeypatch):
    with one_training(tmp_path):
        monkeypatch.setenv("SLURM_PROCID", "1")
        with one_training(tmp_path):
            pass
        monkeypatch.setenv("SLURM_PROCID", "0")
        with pytest.raises(ValueError, match="is being trained by another command"), one_training(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_process_leaves_when_the_first_is_gone_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.1)
    reasons, over = queue.Queue(), threading.Event()
    with locked(tmp_path / ".first", "taken"):
        watch = threading.Thread(target=processes._watch, args=(tmp_path / ".first", over, reasons.put))
        watch.start()
        with pytest.raises(queue.Empty):
            reasons.get(timeout=0.5)
    assert reasons.get(timeout=5) == "is gone; the message of it says why"
    watch.join(5)


def test_a_process_that_sees_another_folder_than_the_first_says_so_and_makes_none(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("RANK", "1")
    reasons = queue.Queue()
    monkeypatch.setattr(processes, "_leave", reasons.put)
    with one_training(tmp_path / "runs/x"):
        assert reasons.get(timeout=5).startswith(f"was never seen in {tmp_path / 'runs/x'}; all processes must see")
    assert not list(tmp_path.iterdir())
