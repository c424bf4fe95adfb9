"""The command line: one verb a module. Only the chosen verb is imported, so `--help` answers at once."""

import argparse
import ctypes
import difflib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from melody_cm import __version__

USER_ERROR, STOPPED = 2, 130
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGE = -1, -3, 1 << 30  # Of glibc's mallopt; bytes.
CACHES = ("MELODY_CM_CACHE", "NUMBA_CACHE_DIR", "HF_HOME")  # What says where each lies, else in the home.
VERBS = {
    "train": "train one stage, or all stages that a system needs",
    "finish": "end a training early and export its last checkpoint",
    "compare": "generate with several systems, judge and time them, write a report",
    "votes": "turn votes of listening tests into preferences and a ranking",
    "ablate": "train and measure variants of a recipe",
    "reproduce": "rerun the papers' tables and test their claims",
    "demo": "try systems in the browser, with a blind listening test",
    "generate": "make music from prompts",
    "export": "write a trained system of a run as one folder",
    "evaluate": "compare a folder of audio with real music",
    "data": "check, import, render, caption, split and encode music",
    "recipes": "list the recipes of the package: purpose, stages needed, time",
    "copy": "copy a recipe of the package, to edit it",
    "doctor": "show versions, devices, optional packages, caches",
}


class Parser(argparse.ArgumentParser):
    """Errors of one line, which names what is nearest to an unknown word, and says what it is that is missing."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        if unknown := re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message):
            what, given, known = unknown[1], unknown[2], [word.strip("'") for word in unknown[3].split(", ")]
            message = f"{what} {given!r} is none of {', '.join(known)}{nearest(given, known)}"
        elif "arguments are required: " in message:
            missing = message.partition("required: ")[2].split(", ")
            helps = {
                str("/".join(action.option_strings) or action.metavar or action.dest): action.help
                for action in self._actions
            }
            message = "; ".join(f"{name} is missing: {helps.get(name) or 'see --help'}" for name in missing)
        self.exit(USER_ERROR, f"{self.prog}: {message}\n")


def nearest(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word."""
    near = difflib.get_close_matches(given, known, n=1)
    return f"; the nearest is {near[0]!r}" if near else ""


def main(arguments: list[str] | None = None) -> int:
    """Run `melody-cm`; bad input gives one clear line and exit code 2, and a traceback only with --debug.

    A verb's module has `add_arguments(parser)` and `run(arguments) -> exit code`.
    """
    options = Parser(prog="melody-cm", add_help=False, allow_abbrev=False)
    _add_options(options)  # They may stand anywhere; the first of the other words is the verb.
    given, words = options.parse_known_args(sys.argv[1:] if arguments is None else list(arguments))
    chosen = words[0] if words else ""
    parser = build_parser([chosen] if chosen in VERBS else [])
    if "_ARGCOMPLETE" in os.environ:  # The shell asks what can come next.
        _complete()
    parsed, rest = parser.parse_known_args(words, given)
    if rest and not getattr(parsed, "takes_overrides", False):
        known = re.findall(r"--[a-z-]+", parsed.usage)
        parser.error(f"{chosen} knows no argument {rest[0]!r}{nearest(rest[0], known)}")
    parsed.overrides = rest
    place_caches()
    unset_empty_ranks()
    if arguments is None:  # A process of its own.
        keep_memory()
    return _run(parsed)


def build_parser(verbs: Iterable[str]) -> argparse.ArgumentParser:
    """The parser that lists all verbs and knows the arguments of some, whose modules are imported for them."""
    parser = Parser(prog="melody-cm", description="Train, sample and compare MeLoDy and MusicCM.")
    parser.add_argument("--version", action="version", version=__version__)
    _add_options(parser)
    subparsers = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, purpose in VERBS.items():
        subparser = subparsers.add_parser(name, help=purpose, allow_abbrev=False)
        if name in verbs:
            verb = importlib.import_module(f"melody_cm.cli.{name}")
            subparser.description = verb.__doc__
            verb.add_arguments(subparser)
            subparser.set_defaults(handler=verb.run, usage=subparser.format_usage())
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    """What every verb takes."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--trust-module", action="append", default=[], metavar="NAME", help="let saved systems use classes of a module"
    )


def _complete() -> None:
    """Answer the shell (argcomplete); only the verb that is there already is imported."""
    try:
        import argcomplete
    except ImportError:
        return
    verbs = [word for word in os.environ.get("COMP_LINE", "").split() if word in VERBS]
    argcomplete.autocomplete(build_parser(verbs[:1]))


def unset_empty_ranks() -> None:
    """Lightning reads rank variables as numbers when it is imported, and an empty one as no number."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(name) == "":
            del os.environ[name]


def place_caches() -> None:
    """Let caches lie in the folder for temporary files where the home cannot be written, as in many containers."""
    home = Path(os.path.expanduser("~"))  # Path.expanduser raises an error for users without a home.
    wanted = [name for name in CACHES if name not in os.environ]
    if not wanted or os.access(home, os.W_OK):
        return
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has none, and a temporary folder for each user.
    try:
        folder = Path(tempfile.gettempdir()) / f"melody_cm_{user}"
        with suppress(OSError):
            folder.mkdir(mode=0o700)
        is_ours = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == user
        folder = folder if is_ours else Path(tempfile.mkdtemp(prefix="melody_cm_"))
    except OSError:
        print(f"melody-cm: neither {home} nor a temporary folder can be written; set {wanted[0]}", file=sys.stderr)
        return
    os.environ |= {name: str(folder / name.lower()) for name in wanted}
    print(f"melody-cm: {home} cannot be written; caches go to {folder} ({', '.join(wanted)})", file=sys.stderr)


def keep_memory() -> None:
    """Let freed blocks stay with the process. glibc gives large ones back, after every layer of a network, and has the
    next one filled with zeros first: up to two fifths of the processor time of a convolution (docs/performance.md)."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)


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
