"""The command line: one verb a module. Only the chosen verb is imported, so `--help` answers at once."""

import argparse
import difflib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from melody_cm import __version__

USER_ERROR, STOPPED = 2, 130
CACHES = ("MELODY_CM_CACHE", "NUMBA_CACHE_DIR", "HF_HOME")  # What says where each lies, else in the home.
VERBS = {
    "train": "train one recipe, or a folder of recipes in order",
    "finish": "end a stage where it stands and export it",
    "compare": "put systems side by side",
    "ablate": "train and measure variants of a recipe",
    "reproduce": "run the papers' tables and judge their claims",
    "generate": "make music from prompts",
    "export": "write a trained system as one folder",
    "evaluate": "judge a folder of audio against real music",
    "data": "check, import, render, make, split and encode collections of captioned music",
    "recipes": "list the recipes that ship, with purpose, needs and cost",
    "copy": "copy a recipe that ships, to edit it",
    "doctor": "show versions, devices, optional parts, caches",
}


def main(arguments: list[str] | None = None) -> int:
    """Run `melody-cm`; bad input gives one clear line and exit code 2, and a traceback only with --debug.

    A verb's module has `add_arguments(parser)` and `run(arguments) -> exit code`.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--debug" in words:
        words = ["--debug", *(word for word in words if word != "--debug")]
    chosen = next((word for word in words if word != "--debug"), "")
    parser = build_parser([chosen] if chosen in VERBS else [])
    if chosen and not chosen.startswith("-") and chosen not in VERBS:
        near = difflib.get_close_matches(chosen, VERBS, n=1, cutoff=0.0)[0]
        parser.error(f"there is no verb {chosen!r}; the nearest is {near!r}")
    parsed, rest = parser.parse_known_args(words)
    if rest and not getattr(parsed, "takes_overrides", False):
        parser.error(f"unknown argument {rest[0]!r}")
    parsed.overrides = rest
    place_caches()
    return _run(parsed)


def build_parser(verbs: Iterable[str]) -> argparse.ArgumentParser:
    """The parser that lists all verbs and knows the arguments of some, whose modules are imported for them."""
    parser = argparse.ArgumentParser(prog="melody-cm", description="Train, sample and compare MeLoDy and MusicCM.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--trust-module", action="append", default=[], metavar="NAME", help="let saved systems use classes of a module"
    )
    subparsers = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, purpose in VERBS.items():
        subparser = subparsers.add_parser(name, help=purpose, allow_abbrev=False)
        if name in verbs:
            verb = importlib.import_module(f"melody_cm.cli.{name}")
            subparser.description = verb.__doc__
            verb.add_arguments(subparser)
            subparser.set_defaults(handler=verb.run)
    return parser


def place_caches() -> None:
    """Let caches lie in the folder for temporary files where the home cannot be written, as in many containers."""
    home = Path("~").expanduser()
    wanted = [name for name in CACHES if name not in os.environ]
    if not wanted or os.access(home, os.W_OK):
        return
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has none, and a temporary folder for each user.
    folder = Path(tempfile.gettempdir()) / f"melody_cm_{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = not folder.is_symlink() and folder.stat().st_uid == user
    except OSError:
        is_ours = False
    folder = folder if is_ours else Path(tempfile.mkdtemp(prefix="melody_cm_"))
    os.environ |= {name: str(folder / name.lower()) for name in wanted}
    print(f"melody-cm: {home} cannot be written; caches go to {folder} ({', '.join(wanted)})", file=sys.stderr)


def _run(parsed: argparse.Namespace) -> int:
    try:
        for name in parsed.trust_module:
            importlib.import_module("melody_cm.storage").trust_module(name)
        return parsed.handler(parsed)
    except KeyboardInterrupt:
        print("melody-cm: stopped", file=sys.stderr)
        return STOPPED
    except Exception as error:
        if parsed.debug:
            raise
        print(f"melody-cm: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR


def _one_line(error: BaseException) -> str:
    """The message of an error; of one that nobody foresaw also its kind, and where to see more."""
    text = " ".join(str(error).split())[:600]
    foreseen = isinstance(error, ValueError | OSError) and text
    return text if foreseen else f"{type(error).__name__}: {text} (--debug shows the traceback)"


if __name__ == "__main__":
    sys.exit(main())
