"""`melody-cm data split` and `data duplicates`: what keeps training and test music apart."""

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

OK, FOUND = 0, 2


def add_commands(commands: Any) -> None:
    """Register both subcommands below `data`."""
    split = commands.add_parser("split", help="divide a manifest into train, valid and test by piece")
    split.add_argument("manifest", metavar="MANIFEST", help="a .jsonl manifest, or a folder with one")
    split.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new manifest, in the same folder")
    split.add_argument("--ratios", type=_numbers, default=[80.0, 10.0, 10.0], help="of train,valid,test: 80,10,10")
    split.add_argument("--seed", type=int, default=0, help="another seed, another split")
    split.add_argument("--force", action="store_true", help="replace FILE if it holds something else")
    split.set_defaults(handler=run_split)
    duplicates = commands.add_parser("duplicates", help="find clips of different splits that sound the same")
    duplicates.add_argument("path", metavar="PATH", help="what `data check` takes")
    duplicates.add_argument("--threshold", type=float, help="similarity from which to report, 0 to 1; default: 0.8")
    duplicates.add_argument("--strict", action="store_true", help=f"exit with {FOUND} if there are any")
    duplicates.set_defaults(handler=run_duplicates)


def run_split(arguments: Namespace) -> int:
    """Write the manifest and tell what each split holds."""
    from melody_cm.data.clips import SPLITS
    from melody_cm.data.splitting import PieceSplit, split_manifest

    split = PieceSplit(arguments.ratios, arguments.seed)
    report = split_manifest(arguments.manifest, arguments.out, split, arguments.force)
    for name in SPLITS:
        hours, pieces = report.seconds[name] / 3600, len(report.pieces[name])
        print(f"{name:6} {report.clips[name]:7} clips {hours:8.3f} hours {pieces:7} pieces")
    if report.unknown:
        print(f"clips of unknown length, not in the hours: {report.unknown}")
    for name in split.shares:
        if not report.clips[name]:
            print(f"no piece fell into {name}: take another --seed or more pieces")
    return OK


def run_duplicates(arguments: Namespace) -> int:
    """Print the pairs that sound the same; 2 if there are any, with --strict, or if no clip can be read."""
    from melody_cm.data.duplicates import THRESHOLD, find_duplicates
    from melody_cm.data.manifest import open_corpus

    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    report = find_duplicates(open_corpus(arguments.path), threshold)
    for problem in report.problems:
        print(problem)
    for pair in report.found:
        first, second = pair.first, pair.second
        print(f"{pair.similarity:.3f} {first.split} {first.id} = {second.split} {second.id} ({pair.offset:+.2f} s)")
    print(f"clips compared: {report.compared}; not readable: {len(report.problems)}")
    print(f"near duplicates across splits: {len(report.found)}")
    return FOUND if not report.compared or (arguments.strict and report.found) else OK


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not three numbers with commas between, as in 80,10,10") from error
