"""`melody-cm evaluate`: how far audio of any system is from real music; what the measures notice."""

import argparse
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.interfaces import AudioEmbedding

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "embedding"
SELFTEST_CLIPS, SELFTEST_SECONDS = 192, 5.0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("evaluate", help="judge a folder of audio against real music", description=__doc__)
    parser.add_argument("--generated", metavar="DIR", help="folder of audio files, or a manifest.jsonl")
    parser.add_argument("--reference", metavar="DIR", help="folder, manifest.jsonl, or statistics of fadtk (.npz)")
    parser.add_argument("--split", help="the reference manifest's split: train, valid or test (default: all rows)")
    parser.add_argument("--generated-split", metavar="SPLIT", help="the same of a manifest given as --generated")
    parser.add_argument(
        "--embedding",
        action="append",
        metavar="NAME[:PATH]",
        help="preset in configs/embedding, with its weights after the colon, or a YAML file; may be repeated "
        "(default: logmel)",
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a line a file in sorted order, or .jsonl, .csv")
    parser.add_argument("--training", metavar="DIR", help="what the system was trained on, for the memorization check")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an older results.json to compare with")
    parser.add_argument("--selftest", action="store_true", help="show which measure notices which damage to real music")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results.json")
    parser.set_defaults(handler=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """Judge by every embedding, or test the measures themselves; write, print."""
    _check(arguments)
    embeddings = [load_embedding(name) for name in arguments.embedding or ["logmel"]]
    if len({embedding.name for embedding in embeddings}) < len(embeddings):
        names = ", ".join(embedding.name for embedding in embeddings)
        raise ValueError(f"two embeddings of one name ({names}) would share their keys; evaluate them one by one")
    return (_selftest if arguments.selftest else _evaluate)(arguments, embeddings)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse words that do not belong together."""
    needed = [] if arguments.selftest else ["generated", "reference", "out"]
    if missing := [f"--{name}" for name in needed if getattr(arguments, name) is None]:
        raise ValueError(f"evaluate needs {', '.join(missing)} (or --selftest alone)")
    unused = ("generated", "generated_split", "prompts", "training", "against") if arguments.selftest else ()
    if given := [f"--{name.replace('_', '-')}" for name in unused if getattr(arguments, name) is not None]:
        raise ValueError(f"--selftest damages the reference itself and takes no {', '.join(given)}; leave it out")
    out = arguments.out
    if out and (out.is_dir() or not next(parent for parent in out.absolute().parents if parent.exists()).is_dir()):
        raise ValueError(f"--out {out} is a folder, or lies below a file; name a file, e.g. results.json")


def _evaluate(arguments: argparse.Namespace, embeddings: list["AudioEmbedding"]) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.evaluation.corpora import find_clips
    from melody_cm.evaluation.folders import Sides, evaluate_folders
    from melody_cm.evaluation.prompt_files import read_prompts
    from melody_cm.evaluation.results import change_table, read_results, refuse_incomparable, result_table
    from melody_cm.storage import write_json

    generated = find_clips(arguments.generated, arguments.generated_split)
    statistics = Path(arguments.reference) if arguments.reference.endswith(".npz") else None
    sides = Sides(
        generated,
        statistics or find_clips(arguments.reference, arguments.split),
        read_prompts(arguments.prompts, generated) if arguments.prompts else None,
        find_clips(arguments.training) if arguments.training else None,
    )
    older = read_results(arguments.against) if arguments.against else None
    if older:
        identities = [embedding.identity for embedding in embeddings]
        refuse_incomparable(older, identities, sides.reference_fingerprint)
    with Progress(console=Console(stderr=True)) as progress:
        results = evaluate_folders(sides, embeddings, progress)
    results["metadata"] |= _metadata(arguments)
    write_json(arguments.out, results)
    console = Console()
    console.print(result_table(results))
    if older:
        console.print(change_table(older, results))
    return 0


def _selftest(arguments: argparse.Namespace, embeddings: list["AudioEmbedding"]) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.data import SyntheticCorpus
    from melody_cm.evaluation.corpora import find_clips
    from melody_cm.evaluation.selftest import selftest, selftest_table
    from melody_cm.storage import write_json

    if arguments.reference:
        clips = find_clips(arguments.reference, arguments.split)
    else:
        clips = SyntheticCorpus(SELFTEST_CLIPS, SELFTEST_SECONDS, sample_rate=16000).clips()
    with Progress(console=Console(stderr=True)) as progress:
        results = selftest(list(clips), embeddings, progress)
    results["metadata"] |= _metadata(arguments)
    if arguments.out:
        write_json(arguments.out, results)
    for embedding in embeddings:
        Console().print(selftest_table(results, embedding.name))
    return 0


def _metadata(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, when and where."""
    from datetime import datetime, timezone

    from melody_cm.benchmark.machine import describe_machine

    return {
        "command": ["melody-cm", *sys.argv[1:]],
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "generated": arguments.generated,
        "reference": arguments.reference or "procedural",
        "split": arguments.split,
        "machine": describe_machine(),
    }


def load_embedding(name: str) -> "AudioEmbedding":
    """The embedding of a preset's name, of `NAME:PATH` (the preset with PATH as its first argument), or of a YAML file.

    Raises:
        FileNotFoundError: there is no such preset or file; ValueError: it describes no embedding.
    """
    import yaml

    from melody_cm.interfaces import AudioEmbedding
    from melody_cm.storage import build

    preset, colon, path = (name, "", "") if name.endswith((".yaml", ".yml")) else name.partition(":")
    file = PRESETS / f"{preset}.yaml" if not name.endswith((".yaml", ".yml")) else Path(name)
    if not file.is_file():
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise FileNotFoundError(f"there is no embedding {name!r}; presets: {known}, or give a YAML file")
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    embedding = build(_with_path(config, path, name) if colon else config)
    if not isinstance(embedding, AudioEmbedding):
        raise ValueError(f"{file} describes no AudioEmbedding; it needs class_path and init_args of one")
    return embedding.eval()


def _with_path(config: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    """The preset with what follows the colon as its constructor's first argument, which must be a text."""
    from melody_cm.storage import find_class

    first = next(iter(inspect.signature(find_class(config["class_path"])).parameters.values()), None)
    if not path or first is None or "str" not in str(first.annotation):
        raise ValueError(f"--embedding {name!r}: {name.partition(':')[0]} takes no path after a colon, or it is empty")
    return {**config, "init_args": {**(config.get("init_args") or {}), first.name: path}}
