"""How long does a manifest of a million rows take to open, and what does it cost in memory?

    python benchmarks/manifest.py
    python benchmarks/manifest.py --rows 100000 --row-bytes 250 1000

Writes manifests into a temporary folder, opens each in a process of its own, twice, and prints for the faster one wall
and CPU seconds of `ManifestCorpus(path).splits()`, the peak memory of the process and what of it was there before (the
imports), the time of one clip at random, and what each of two worker processes takes for itself while it reads ten
thousand clips. Then, on small files, what `fingerprint()` costs a file the first time and again.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from melody_cm.data import Clip, ManifestCorpus
from melody_cm.evaluation.provenance import describe_machine

CAPTION = "A calm piano piece in A minor with soft strings and a slow, steady pulse, warm and a little sad"
FILES = 20_000


def write_manifest(path: Path, num_rows: int, row_bytes: int) -> None:
    """Rows of about `row_bytes` bytes: four clips a piece, captions as long as it takes."""
    with path.open("w") as file:
        for number in range(num_rows):
            piece = number // 4
            row = {
                "id": f"clip_{number:07d}",
                "audio": f"audio/{number // 1000:04d}/{number:07d}.opus",
                "start": 0.0,
                "duration": 10.0,
                "split": "valid" if piece % 10 == 8 else "test" if piece % 10 == 9 else "train",
                "piece": f"song_{piece:06d}",
                "caption": CAPTION,
            }
            missing = row_bytes - len(json.dumps(row))
            if missing > 100:
                row["alt_captions"] = [CAPTION[::-1]] * (missing // 200)
                row["tags"] = ["instrument", "mood"] * (missing // 40)
            file.write(json.dumps(row) + "\n")


def peak_mib() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def private_mib() -> float:
    """Memory that this process shares with no other."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private")) / 1024


def open_once(path: str) -> dict[str, Any]:
    """Open a manifest in this process and look at what that took."""
    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    clips = ManifestCorpus(path).splits()["train"]
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak_mib(), "before": before}
    places = random.Random(0).sample(range(len(clips)), 1000)
    start = time.process_time()
    for place in places:
        clips[place]
    return found | {"access": (time.process_time() - start) / len(places), "workers": worker_memory(clips)}


def worker_memory(clips: Sequence[Clip]) -> list[float]:
    """MiB that each of two forked processes has for itself after reading 10000 clips."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_read, args=(clips, seed, queue)) for seed in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _read(clips: Sequence[Clip], seed: int, queue: Any) -> None:
    before = private_mib()
    draw = random.Random(seed)
    for _ in range(10_000):
        clips[draw.randrange(len(clips))]
    queue.put(private_mib() - before)


def in_a_process(path: Path) -> dict[str, Any]:
    """`open_once` in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(open_once, str(path)).result()


def fingerprint_costs(folder: Path) -> tuple[float, float]:
    """Microseconds a file of `fingerprint()`, first and again, for files of 4 kB that have just been written."""
    rows = []
    for number in range(FILES):
        (folder / f"{number}.opus").write_bytes(os.urandom(4096))
        rows.append(json.dumps({"id": number, "audio": f"{number}.opus", "caption": None}))
    (folder / "manifest.jsonl").write_text("\n".join(rows))
    time.sleep(3)
    corpus, seconds = ManifestCorpus(str(folder)), []
    corpus.clips()
    for _ in range(2):
        start = time.perf_counter()
        corpus.fingerprint()
        seconds.append(time.perf_counter() - start)
    return 1e6 * seconds[0] / FILES, 1e6 * seconds[1] / FILES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, nargs="+", default=[250, 950])
    arguments = parser.parse_args()
    machine = describe_machine()
    print(f"{machine['system']}, {machine['cpu_cores']} cores, Python {machine['versions']['python']}")
    print("     rows  bytes  wall s  CPU s  peak MiB  imports  us a clip   worker MiB")
    with tempfile.TemporaryDirectory() as name:
        os.environ["MELODY_CM_CACHE"] = f"{name}/cache"
        for row_bytes in arguments.row_bytes:
            path = Path(name) / f"{row_bytes}.jsonl"
            write_manifest(path, arguments.rows, row_bytes)
            found = min((in_a_process(path) for _ in range(2)), key=lambda each: each["wall"])
            size = path.stat().st_size / arguments.rows
            path.unlink()
            print(
                f"{arguments.rows:9d} {size:6.0f} {found['wall']:7.2f} {found['cpu']:6.2f} {found['peak']:9.0f} "
                f"{found['before']:8.0f} {1e6 * found['access']:10.1f}   "
                + " ".join(f"{own:.1f}" for own in found["workers"])
            )
        (Path(name) / "files").mkdir()
        first, again = fingerprint_costs(Path(name) / "files")
        print(f"fingerprint of {FILES} files of 4 kB: {first:.0f} us a file the first time, {again:.0f} us again")


if __name__ == "__main__":
    main()
