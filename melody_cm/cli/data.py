"""`melody-cm data`: look after collections of captioned music."""

from argparse import ArgumentParser, Namespace
from typing import Any

OK, UNUSABLE = 0, 2


def add_parser(subparsers: Any) -> ArgumentParser:
    """Register the verb; each subcommand sets `handler(arguments) -> exit code`."""
    parser = subparsers.add_parser("data", help="check collections of captioned music")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="read every clip, tell what is there and what is wrong")
    check.add_argument("path", metavar="PATH", help="a .jsonl manifest, a folder with one, or a folder of sound files")
    check.add_argument("--strict", action="store_true", help=f"exit with {UNUSABLE} if anything is wrong")
    check.set_defaults(handler=run_check)
    return parser


def run_check(arguments: Namespace) -> int:
    """Print the report on a corpus; 2 if it is unusable or, with --strict, if anything is wrong."""
    from melody_cm.data.check import check_corpus

    report = check_corpus(arguments.path)
    _print_report(report)
    if not report.clips:
        print("nothing usable: no clip can be read")
    return UNUSABLE if not report.clips or (arguments.strict and report.problems) else OK


def _print_report(report: Any) -> None:
    for problem in report.problems:
        print(problem)
    for split, count in report.clips.items():
        print(f"{split:6} {count:7} clips {report.seconds[split] / 3600:8.3f} hours")
    print("sample rates: " + _counts(report.sample_rates, " Hz"))
    print("licences: " + _counts(report.licenses))
    print(f"rows without audio, left out: {report.without_audio}; clips without a caption: {report.without_caption}")
    print(f"problems: {len(report.problems)}")


def _counts(counts: Any, unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.most_common()) or "none"
