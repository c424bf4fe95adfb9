"""`melody-cm data`: look after collections of captioned music."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from melody_cm.cli import rendering, splitting

OK, UNUSABLE = 0, 2


def add_parser(subparsers: Any) -> ArgumentParser:
    """Register the verb; each subcommand sets `handler(arguments) -> exit code`."""
    parser = subparsers.add_parser("data", help="check, render, make, split and encode collections of captioned music")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="read every clip, tell what is there and what is wrong")
    check.add_argument("path", metavar="PATH", help="a .jsonl manifest, a folder, or a .yaml of a corpus")
    check.add_argument("--strict", action="store_true", help=f"exit with {UNUSABLE} if anything is wrong")
    check.set_defaults(handler=run_check)
    rendering.add_command(commands)
    synthetic = commands.add_parser("make-synthetic", help="write procedural music as FLAC files with a manifest")
    synthetic.add_argument("folder", type=Path, metavar="DIR", help="new or empty; begun before: goes on")
    synthetic.add_argument("--clips", type=int, required=True, help="how many")
    synthetic.add_argument("--seed", type=int, required=True, help="another seed, other music")
    synthetic.add_argument("--seconds", type=float, default=10.0, help="length of a clip; default: %(default)s")
    synthetic.add_argument("--sample-rate", type=int, default=24000, help="Hz; default: %(default)s")
    synthetic.set_defaults(handler=make_synthetic)
    splitting.add_commands(commands)
    return parser


def run_check(arguments: Namespace) -> int:
    """Print the report on a corpus; 2 if it is unusable or, with --strict, if anything is wrong."""
    from melody_cm.data.check import check_corpus

    report = check_corpus(arguments.path)
    _print_report(report)
    if not report.clips:
        print("nothing usable: no clip can be read")
    wrong = report.problems or report.missing
    return UNUSABLE if not report.clips or (arguments.strict and wrong) else OK


def make_synthetic(arguments: Namespace) -> int:
    """Write the procedural corpus, or find that it is there."""
    from melody_cm.data.synthetic import write_corpus

    folder, clips, seconds = arguments.folder, arguments.clips, arguments.seconds
    write_corpus(folder, clips, arguments.seed, seconds, arguments.sample_rate)
    print(f"{folder}: {clips} clips of {seconds:g} s, {clips * seconds / 3600:.3f} hours")
    return OK


def _print_report(report: Any) -> None:
    for problem in report.problems:
        print(problem)
    for missing in report.missing:
        print(f"{missing}: no such file")
    for split, count in report.clips.items():
        print(f"{split:6} {count:7} clips {report.seconds[split] / 3600:8.3f} hours")
    print("sample rates: " + _counts(report.sample_rates, " Hz"))
    print("licences: " + _counts(report.licenses))
    print(f"rows without audio, left out: {report.without_audio}; clips without a caption: {report.without_caption}")
    print(f"rows whose sound file is not there, left out: {len(report.missing)}")
    reasons = f" ({_counts(report.reasons)})" if report.reasons else ""
    print(f"problems: {len(report.problems)}{reasons}")


def _counts(counts: Any, unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.most_common()) or "none"
