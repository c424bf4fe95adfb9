"""What is done to melody_cm on purpose: kills, full disks, damaged files, hostile inputs. One table; `make faults`.

python tests/faults/main.py [--short] [--write docs/reliability.md] [--trained RUN]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import NamedTuple, TypeVar

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "training"), str(TESTS / "cli")]
for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(name, value)

import disks  # noqa: E402
import hostile  # noqa: E402
import kills  # noqa: E402
import torch  # noqa: E402
from sandbox import Outcome, run_apart  # noqa: E402
from two_steps import train_two_steps  # noqa: E402

from melody_cm.data.jobs import cores  # noqa: E402

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
PARTS = ("kills", "ranks", "disks", "files", "hostile")
SEED = 20
Result = TypeVar("Result")


class Line(NamedTuple):
    """One line of the table: what was done, how often, what came of it, and what went wrong (one text each)."""

    done: str
    count: int
    outcome: str
    wrong: list[str]


def kill_lines(trained: Path, folder: Path, short: bool) -> Iterator[Line]:
    """Trainings that are killed at random moments."""
    for kind in ("plain",) if short else kills.STAGES:
        done = kills.undisturbed(kind, trained, folder / kind / "undisturbed")
        work = partial(kills.killed, kind, trained, folder / kind, *done, SEED)
        rounds = list(side_by_side(work, range(1 if short else 10)))
        wrong, met = [text for _, text in rounds if text], sum(count for count, _ in rounds)
        title = f"SIGKILL, SIGTERM, SIGINT in a stage: {kind} ({kills.STAGES[kind]})"
        ended = f"{len(rounds) - len(wrong)} of {len(rounds)} trainings ended bit-equal"
        yield Line(title, 3 * len(rounds), f"{met} met the training; {ended}", wrong)


def rank_lines(trained: Path, folder: Path, short: bool) -> Iterator[Line]:
    """Trainings in two processes of which one is killed."""
    for victim, name in ((1, "second"), (0, "first")) if not short else ():
        (folder / name).mkdir(parents=True)
        lived, wrong = kills.one_of_two(victim, folder / name)
        yield Line(f"SIGKILL to the {name} of two processes", 1, f"the other ended after {lived:.0f} s",
                   [wrong] if wrong else [])  # fmt: skip


def disk_lines(trained: Path, folder: Path, short: bool) -> Iterator[Line]:
    """Full and read-only disks."""
    if short or not disks.can_mount():
        return
    yield from _by_fault(disks.disks(trained, folder), "one line; mended, the same command ends as if nothing had been")


def file_lines(trained: Path, folder: Path, short: bool) -> Iterator[Line]:
    """Damaged files."""
    if not short:
        yield from _by_fault(disks.files(trained, folder), "one line, or begun anew; never other weights")


def _by_fault(found: Iterator[tuple[str, str, str]], outcome: str) -> Iterator[Line]:
    rows = list(found)
    for fault in dict.fromkeys(row[0] for row in rows):
        verbs = [verb for name, verb, _ in rows if name == fault]
        wrong = [f"{verb}: {text}" for name, verb, text in rows if name == fault and text]
        yield Line(f"{fault}: {', '.join(verbs)}", len(verbs), outcome, wrong)


def hostile_lines(trained: Path, folder: Path, short: bool) -> Iterator[Line]:
    """Hostile inputs."""
    house = hostile.House.built(folder / "house", trained)
    counts: dict[str, Counter[str]] = {}
    wrong: dict[str, list[str]] = {}
    slowest = largest = 0.0
    tried = side_by_side(partial(_tried, house, folder), range(15 if short else 2000))
    for number, (kind, outcome) in enumerate(tried):
        counts.setdefault(kind, Counter())[outcome.kind] += 1
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
        if not outcome.is_good:
            wrong.setdefault(kind, []).append(f"{number}: {outcome.kind}: {outcome.message}")
    for kind, found in counts.items():
        said = f"{found['refused']} refused in one line, {found['harmless']} harmless"
        yield Line(f"hostile {kind}", found.total(), said, wrong.get(kind, []))
    yield Line("hostile inputs together", sum(found.total() for found in counts.values()),
               f"longest {slowest:.1f} s, most memory {largest:.0f} MB", [])  # fmt: skip


def _tried(house: hostile.House, folder: Path, number: int) -> tuple[str, Outcome]:
    """The kind of an input and what came of it; what did harm is kept."""
    case, own = hostile.case(house, number, SEED), folder / str(number)
    own.mkdir()
    case.lay(own)
    outcome = run_apart(lambda: case.read(own), own)
    if outcome.is_good:
        shutil.rmtree(own, ignore_errors=True)
    return case.kind, outcome


def side_by_side(work: Callable[[int], Result], numbers: range) -> Iterator[Result]:
    """`work` of each number in turn, as many at once as there are cores."""
    with get_context("fork").Pool(cores()) as pool:
        yield from pool.imap(work, numbers)
        pool.close()
        pool.join()  # So that their time is counted.


def table(lines: list[Line]) -> str:
    """The lines in Markdown."""
    rows = [f"| {line.done} | {line.count} | {line.outcome} | {len(line.wrong)} |" for line in lines]
    return "\n".join(["| what was done | times | what came of it | wrong |", "|---|--:|---|--:|", *rows])


def main() -> int:
    """Do everything, print the table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="about a minute")
    parser.add_argument("--trained", type=Path, help="a run with all stages at size tiny (default: trained now)")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started, load = time.monotonic(), os.getloadavg()[0]
    makers = dict(zip(PARTS, (kill_lines, rank_lines, disk_lines, file_lines, hostile_lines), strict=True))
    lines = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        os.environ.setdefault("MELODY_CM_CACHE", str(folder / "cache"))
        trained = arguments.trained or train_two_steps(folder / "trained").path
        for part in arguments.parts or PARTS:
            (folder / part).mkdir()
            for line in makers[part](trained.resolve(), folder / part, arguments.short):
                lines.append(line)
                print(f"{line.done}: {line.count}, {line.outcome}, wrong: {len(line.wrong)}", flush=True)
                for text in line.wrong:
                    print(f"    {text}", flush=True)
    minutes = (time.monotonic() - started) / 60
    busy = sum(getrusage(RUSAGE_CHILDREN)[:2]) / 60
    note = f"{minutes:.0f} minutes on {cores()} cores ({busy:.1f} of processor time), load at the beginning {load:.1f}."
    print(f"\n{table(lines)}\n\n{note}")
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        arguments.write.write_text(f"{before}{BEGIN}\n{table(lines)}\n\n{note}\n{END}{after}", encoding="utf-8")
    return int(any(line.wrong for line in lines))


if __name__ == "__main__":
    sys.exit(main())
