"""The command line: one verb a module. What a verb needs is imported when it runs, so `--help` answers at once."""

import argparse
import os
import sys

from melody_cm import __version__

USER_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run `melody-cm`; bad input gives one clear line and exit code 2, and a traceback only with --debug."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and not getattr(parsed, "takes_overrides", False):
        parser.error(f"unknown argument {rest[0]!r}")
    parsed.overrides = rest
    try:
        return parsed.handler(parsed)
    except KeyboardInterrupt:
        print("melody-cm: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if parsed.debug:
            raise
        print(f"melody-cm: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs."""
    from melody_cm.cli import ablate, compare, data, doctor, evaluate, export, generate, reproduce, train

    parser = argparse.ArgumentParser(prog="melody-cm", description="Train, sample and compare MeLoDy and MusicCM.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(title="verbs", required=True)
    for verb in (train, compare, ablate, reproduce, generate, export, evaluate, data, doctor):
        verb.add_parser(subparsers)
    return parser


def _one_line(error: BaseException) -> str:
    """The message of an error; of one that nobody foresaw also its kind, and where to see more."""
    text = " ".join(str(error).split())[:600]
    foreseen = isinstance(error, ValueError | OSError) and text
    return text if foreseen else f"{type(error).__name__}: {text} (--debug shows the traceback)"


if __name__ == "__main__":
    sys.exit(main())
