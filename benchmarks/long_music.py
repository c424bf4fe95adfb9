"""Does the memory of `melody-cm generate` grow with the length of the music, and how fast is long music made?

    python benchmarks/long_music.py my_melody
    python benchmarks/long_music.py my_melody --seconds 60 300 --steps 5 --continue-from music.wav

Each length is one `melody-cm generate` in a process of its own; prints wall seconds of the whole command (imports
included), seconds of music a second without what came before the first token, and the peak of resident memory, in the
end that of the last length over that of the first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(pipeline: str, seconds: float, more: list[str]) -> tuple[float, float, float]:
    """Wall seconds, times real time of the parts together, peak MiB."""
    with tempfile.TemporaryDirectory() as out:
        words = ["generate", pipeline, "--seconds", f"{seconds:g}", "--out", out, *more]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "melody_cm.cli.main", *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"melody-cm generate failed with exit code {process.returncode}")
        wall = time.perf_counter() - start
        (made,) = Path(out).glob("*.json")
        timings = json.loads(made.read_text(encoding="utf-8"))["timings"]
    return wall, seconds / sum(timings.values()), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="a folder written by `melody-cm export`")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 300.0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--continue-from", help="go on from this music instead of a text")
    arguments = parser.parse_args()
    more = ["--continue-from", arguments.continue_from] if arguments.continue_from else ["--prompt", "slow piano"]
    more += ["--steps", str(arguments.steps)] if arguments.steps else []
    peaks = []
    for seconds in arguments.seconds:
        wall, speed, peak = measure(arguments.pipeline, seconds, more)
        print(f"{seconds:6.0f} s of music: {wall:6.1f} s, {speed:5.2f} x real time, peak {peak:6.0f} MiB", flush=True)
        peaks.append(peak)
    print(f"peak of the last over that of the first: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
