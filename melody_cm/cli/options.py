"""Arguments that several verbs share."""

import argparse
from pathlib import Path
from typing import Any

import melody_cm

SIZES = (
    "tiny (about a minute a stage on 2 CPU cores, only shows that everything runs), "
    "cpu (2-3 M parameters, 20 minutes to 7 hours a stage on one core), "
    "small (18-25 M, about 10 minutes a stage on one large GPU), paper (weeks on many)"
)


def add_setting(parser: argparse.ArgumentParser, size_is_known: bool = False) -> None:
    """How recipes are composed, and where runs are kept; with `size_is_known` --size is optional."""
    parser.add_argument("--size", required=not size_is_known, help=SIZES)
    parser.add_argument(
        "--machine",
        default="cpu",
        help="cpu, gpu, ddp, slurm, multinode, or a YAML file like configs/machines/*.yaml (default: cpu)",
    )
    parser.add_argument("--corpus", help="a manifest or a folder of music, in place of the procedural corpus")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")


def add_placement(parser: argparse.ArgumentParser, what: str) -> None:
    """Where networks compute, and how precisely; `what` says which."""
    parser.add_argument(
        "--device", default="auto", help=f"for {what}: cpu, cuda, cuda:N or mps (default: auto, the best available)"
    )
    parser.add_argument("--precision", default="fp32", help=f"for {what}: fp32, bf16 or fp16 (default: fp32)")


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """In how many bits the weights of language models are."""
    parser.add_argument(
        "--quantize", help="int8 or int4: language models sample with weights of 8 or 4 bits, on a CPU only"
    )


def chosen_placement(arguments: argparse.Namespace) -> Any:
    """What --device and --precision say, and --quantize where a command has it.

    Raises:
        ValueError: there is no such device here, no such precision, or no such quantization on the device.
    """
    return melody_cm.Placement.choose(arguments.device, arguments.precision, getattr(arguments, "quantize", None))


def chosen_run(arguments: argparse.Namespace, default: str) -> Any:
    """The run of --run, below --runs.

    Raises:
        ValueError: a path in place of a name.
    """
    name = arguments.run or default
    if Path(name).name != name:
        raise ValueError(f"--run {name!r} cannot name a run; use letters, digits, - and _")
    return melody_cm.Run(arguments.runs / name)


def whole_numbers(option: str, text: str | None) -> list[int]:
    """`1,2,3` as numbers.

    Raises:
        ValueError: something else.
    """
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ValueError(f"{option} {text!r} must be whole numbers with commas between, like 0,1,2") from error
