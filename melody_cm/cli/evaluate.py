"""`melody-cm evaluate`: how far a folder of audio, made by any system, is from real music."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melody_cm.interfaces import AudioEmbedding

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "embedding"
SCHEMA_VERSION = 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("evaluate", help="judge a folder of audio against real music", description=__doc__)
    parser.add_argument("--generated", required=True, metavar="DIR", help="folder of audio files")
    parser.add_argument("--reference", required=True, metavar="DIR", help="folder of audio files, or a manifest.jsonl")
    parser.add_argument("--embedding", default="logmel", help="preset in configs/embedding, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results.json")
    parser.set_defaults(handler=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """Embed both sides, write the distance, print it."""
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.benchmark.machine import describe_machine
    from melody_cm.data import open_corpus
    from melody_cm.evaluation.corpora import corpus_distance
    from melody_cm.storage import write_json

    embedding = load_embedding(arguments.embedding)
    generated, reference = open_corpus(arguments.generated), open_corpus(arguments.reference)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(embedding.name, total=len(generated.clips()) + len(reference.clips()))
        result = corpus_distance(generated, reference, embedding, lambda: progress.advance(task))
    problems = result.pop("problems")
    key = f"fad_{embedding.name}"
    metadata = {
        "generated": arguments.generated,
        "reference": arguments.reference,
        "machine": describe_machine(),
        "problems": problems,
    }
    write_json(arguments.out, {"schema_version": SCHEMA_VERSION, "metadata": metadata, "metrics": {key: result}})
    for problem in problems:
        print(f"left out: {problem}")
    warning = f" (too few: fewer than {2 * embedding.width} clips on a side, mostly bias)" if result["too_few"] else ""
    print(
        f"{key} {result['value']:.4f}, n {result['n_generated']} generated, {result['n_reference']} reference{warning}"
    )
    return 0


def load_embedding(name: str) -> "AudioEmbedding":
    """The embedding of a preset's name or of a YAML file.

    Raises:
        FileNotFoundError: there is no such preset or file; ValueError: it describes no embedding.
    """
    import yaml

    from melody_cm.interfaces import AudioEmbedding
    from melody_cm.storage import build

    file = Path(name) if name.endswith(".yaml") else PRESETS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise FileNotFoundError(f"there is no embedding {name!r}; presets: {known}, or give a YAML file")
    embedding = build(yaml.safe_load(file.read_text(encoding="utf-8")))
    if not isinstance(embedding, AudioEmbedding):
        raise ValueError(f"{file} describes no AudioEmbedding; it needs class_path and init_args of one")
    return embedding.eval()
