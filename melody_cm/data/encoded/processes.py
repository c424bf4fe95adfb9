"""Shards shared out among processes, whose first failure ends them all."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch

from melody_cm.data.encoded.shards import Shard
from melody_cm.data.encoded.writing import EncodingJob

POLL_SECONDS = 1.0


def devices(device: str, processes: int | None, num_shards: int) -> list[str]:
    """The device of each process: one a GPU, or one a core. More processes than shards would have nothing to do."""
    if device == "cuda":
        count = torch.cuda.device_count()
        if not count:
            raise ValueError("--device cuda: there is no GPU here; use --device cpu")
        return [f"cuda:{index % count}" for index in range(min(processes or count, num_shards))]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ["cpu"] * min(processes or cores, num_shards)


def make_all(job: EncodingJob, shards: Sequence[Shard], where: Sequence[str], on_shard: Callable[[Shard], Any]) -> None:
    """Make shards on the given devices, a process each; one device is served by this process itself.

    Args:
        on_shard: called for each shard that is done.

    Raises:
        what a process failed with, by its message.
    """
    if len(where) > 1:
        _make_in_processes(job, shards, where, on_shard)
        return
    threads = torch.get_num_threads()
    try:
        for shard in _made(job, shards, where[0]):
            on_shard(shard)
    finally:
        torch.set_num_threads(threads)


def _made(job: EncodingJob, shards: Sequence[Shard], device: str) -> Any:
    torch.set_num_threads(1)  # Sums then have one order, so that the bytes do not depend on the number of processes.
    encoding = job.open(device)
    for shard in shards:
        encoding.make(shard)
        yield shard


def _make_in_processes(
    job: EncodingJob, shards: Sequence[Shard], where: Sequence[str], on_shard: Callable[[Shard], Any]
) -> None:
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    shares = [shards[rank :: len(where)] for rank in range(len(where))]
    workers = [
        context.Process(target=_work, args=(job, share, device, reports), daemon=True)
        for share, device in zip(shares, where, strict=True)
    ]
    try:
        for worker in workers:
            worker.start()
        for _ in shards:
            on_shard(_next(reports, workers))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _next(reports: Any, workers: Sequence[Any]) -> Shard:
    while True:
        try:
            report = reports.get(timeout=POLL_SECONDS)
        except queue.Empty:
            dead = [worker.exitcode for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise RuntimeError(
                    f"a process that encodes was killed (exit code {dead[0]}), perhaps for want of memory; use fewer "
                    "--processes, and the same command goes on"
                ) from None
            continue
        if isinstance(report, BaseException):
            raise report
        return report


def _work(job: EncodingJob, shards: Sequence[Shard], device: str, reports: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends the others.
    try:
        for shard in _made(job, shards, device):
            reports.put(shard)
            if not multiprocessing.parent_process().is_alive():  # type: ignore[union-attr]
                return
    except Exception as error:
        reports.put(_plain(error))


def _plain(error: Exception) -> Exception:
    """The same error, of a kind that can be sent between processes."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename)
    kind = ValueError if isinstance(error, ValueError) else OSError if isinstance(error, OSError) else RuntimeError
    return kind(str(error) if kind is not RuntimeError else f"{type(error).__name__}: {error}")
