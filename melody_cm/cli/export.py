"""Write a trained system of a run as one folder that needs no other file, for `generate`, `--from` or the model hub."""

import argparse
from pathlib import Path

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "system", type=Path, help="RUNS/RUN/SYSTEM, e.g. runs/mine/melody; SYSTEM is a name in configs/pipeline"
    )
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.add_argument("--results", type=Path, metavar="FILE", help="results.json of a comparison, for the model card")
    parser.add_argument("--half", action="store_true", help="store matrices in fp16: half the size")


def run(arguments: argparse.Namespace) -> int:
    """Write config.json, a model card and one safetensors folder per network; for diffusers, the scheduler too."""
    if len(arguments.system.parts) < 2:
        raise ValueError(f"{arguments.system} is no system of a run; give RUNS/RUN/SYSTEM, e.g. runs/mine/melody")
    pipeline = melody_cm.Run(arguments.system.parent).pipeline(arguments.system.name)
    if arguments.results:
        pipeline.results = melody_cm.card_results(pipeline, melody_cm.Results.read(arguments.results, "compare"))
    pipeline.save_pretrained(arguments.folder, arguments.half)
    print(f"{type(pipeline).__name__} written to {arguments.folder}; try: melody-cm generate {arguments.folder} ...")
    return 0
