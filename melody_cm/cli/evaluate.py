"""Compare a folder of audio from any system with real music, or show what the measures notice."""

import argparse
from pathlib import Path

from rich.console import Console

import melody_cm
from melody_cm.cli.options import add_placement, chosen_placement

OF_GENERATED = ("generated_split", "prompts", "training", "against", "music", "paired", "level_matched")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--generated", metavar="DIR", help="folder of audio files, or a manifest.jsonl")
    parser.add_argument(
        "--reference", metavar="DIR", help="folder, manifest.jsonl, or fadtk's statistics (FILE.npz, FILE.npz:MODEL)"
    )
    parser.add_argument("--split", help="the reference manifest's split: train, valid or test (default: all rows)")
    parser.add_argument("--generated-split", metavar="SPLIT", help="the same for a manifest given as --generated")
    parser.add_argument(
        "--embedding",
        action="append",
        metavar="NAME[:PATH]",
        help="preset in configs/embedding, with its weights after the colon, or a YAML file; may be repeated "
        "(default: logmel, and musicnn where it is installed; with --selftest: logmel)",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="the text of each file: .txt with a line a file, or .jsonl or .csv"
    )
    parser.add_argument("--training", metavar="DIR", help="the system's training music, to check for copies of it")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an older results.json to compare with")
    parser.add_argument(
        "--music", action="store_true", help="also measure pitch, rhythm and level, beside those of the reference"
    )
    parser.add_argument(
        "--paired",
        action="store_true",
        help="also compare each file with the reference of the same name: harmony, spectrum, tags",
    )
    parser.add_argument("--level-matched", action="store_true", help="also judge at equal loudness")
    parser.add_argument("--selftest", action="store_true", help="show which measure notices which damage to real music")
    add_placement(parser, "the embeddings")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the results.json to write")


def run(arguments: argparse.Namespace) -> int:
    """Judge by every embedding, or test the measures themselves; print the tables."""
    _check(arguments)
    common = {"split": arguments.split, "out": arguments.out, "show_progress": True}
    common["placement"] = chosen_placement(arguments)
    if arguments.selftest:
        results = melody_cm.selftest(arguments.reference, arguments.embedding or ["logmel"], **common)
        sheets = melody_cm.selftest_sheets(results)
    else:
        words = {name: getattr(arguments, name) for name in OF_GENERATED}
        results = melody_cm.evaluate(arguments.generated, arguments.reference, arguments.embedding, **words, **common)
        sheets = melody_cm.evaluation_sheets(results, arguments.against)
    Console().print(*sheets, sep="\n")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    needed = [] if arguments.selftest else ["generated", "reference", "out"]
    if missing := [f"--{name}" for name in needed if getattr(arguments, name) is None]:
        raise ValueError(f"evaluate needs {', '.join(missing)} (or --selftest alone)")
    unused = ("generated", *OF_GENERATED) if arguments.selftest else ()
    if given := [f"--{name.replace('_', '-')}" for name in unused if getattr(arguments, name) not in (None, False)]:
        raise ValueError(f"--selftest damages the reference itself and takes no {', '.join(given)}; leave it out")
