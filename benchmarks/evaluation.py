"""How long does `melody-cm evaluate` take for 1000 clips, and does its memory grow with their number?

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --clips 100 1000 --cores 2 --embedding logmel

Makes ten-second 24 kHz Opus files of procedural music, judges them against 100 others in a process of its own, and
prints wall seconds of the whole command (imports and reference included) and its peak resident memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from melody_cm.data import SyntheticCorpus

DISTINCT = 40
REFERENCE = 100


def write_clips(folder: Path, sources: list[Path], count: int) -> None:
    """`count` Opus files; speed does not ask whether music repeats, so few are encoded and the rest copied."""
    folder.mkdir()
    for index in range(count):
        file = folder / f"{index:05d}.opus"
        if index < len(sources):
            soundfile.write(file, *soundfile.read(sources[index]), format="OGG", subtype="OPUS")
        else:
            shutil.copy(folder / f"{index % len(sources):05d}.opus", file)


def measure(generated: Path, reference: Path, embedding: str, cores: int) -> tuple[float, float]:
    """Wall seconds and peak MiB of one `melody-cm evaluate`, without a cache from earlier runs."""
    words = ["--generated", generated, "--reference", reference, "--embedding", embedding]
    command = [sys.executable, "-m", "melody_cm.cli.main", "evaluate", *map(str, words)]
    cache = tempfile.mkdtemp(dir=generated.parent)
    environment = os.environ | {"MELODY_CM_CACHE": cache, "OMP_NUM_THREADS": str(cores)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", f"{cache}/results.json"],
        env=environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"melody-cm evaluate failed with exit code {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--embedding", default="logmel")
    arguments = parser.parse_args()
    sources = [clip.audio for clip in SyntheticCorpus(DISTINCT, 10.0).clips()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder / "reference", sources[::-1], REFERENCE)
        print(f"{arguments.embedding}, {arguments.cores} cores, {REFERENCE} reference clips")
        for count in arguments.clips:
            write_clips(folder / f"{count}", sources, count)
            seconds, peak = measure(folder / f"{count}", folder / "reference", arguments.embedding, arguments.cores)
            print(f"{count:6d} clips: {seconds:6.1f} s, peak {peak:6.0f} MiB")


if __name__ == "__main__":
    main()
