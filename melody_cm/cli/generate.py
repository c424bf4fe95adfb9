"""`melody-cm generate`: prompts to WAV files, each with a JSON that says how it was made."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.pipelines import PretrainedPipeline


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("generate", help="make music from prompts", description=__doc__)
    parser.add_argument("pipeline", metavar="DIR", help="a folder written by `melody-cm export`, or owner/name")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="one clip each; may be repeated")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line (# comments)")
    parser.add_argument("--seconds", type=float, required=True, help="length of every clip")
    parser.add_argument("--seed", type=int, default=0, help="clip i sounds by (seed, i) alone (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's own)")
    parser.add_argument("--guidance-scale", type=float, help="1 = none (default: the pipeline's own)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips made at a time (default: 8)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the WAV and JSON files")
    parser.set_defaults(handler=generate)


def generate(arguments: argparse.Namespace) -> int:
    """Load the pipeline, generate in batches, write each batch when it is done."""
    prompts = read_prompts(arguments.prompt, arguments.prompts)
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.pipelines import PretrainedPipeline

    pipeline = PretrainedPipeline.from_pretrained(arguments.pipeline)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    batches = pipeline.batches(
        prompts,
        arguments.seconds,
        arguments.seed,
        arguments.steps,
        arguments.guidance_scale,
        batch_size=arguments.batch_size,
    )
    facts = _facts(pipeline, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = 0
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{facts['system']}, {facts['num_steps']} steps", total=len(prompts))
        for batch in batches:
            for waveform in batch.waveform.cpu():
                made = {"prompt": prompts[written], "clip_index": written, **facts}
                made |= {"timings": batch.timings, "batch_size": len(batch.waveform)}
                _write_clip(arguments.out, waveform, made)
                written += 1
            progress.update(task, completed=written)
    print(f"{written} clip(s) of {arguments.seconds:g} s in {arguments.out}")
    return 0


def read_prompts(given: list[str], file: Path | None) -> list[str]:
    """The prompts given one by one, then those of the file.

    Raises:
        FileNotFoundError, ValueError: no such file, or no prompt at all.
    """
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; --prompts takes a text file with one prompt a line")
    lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
    prompts = [*given, *(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))]
    if not prompts:
        raise ValueError('there is no prompt; give --prompt "a calm piano melody" or --prompts FILE')
    return prompts


def _facts(pipeline: "PretrainedPipeline", arguments: argparse.Namespace) -> dict[str, Any]:
    from melody_cm.benchmark.machine import versions

    guidance_scale = arguments.guidance_scale
    return {
        "system": type(pipeline).__name__,
        "pipeline": arguments.pipeline,
        "seed": arguments.seed,
        "seconds": arguments.seconds,
        "num_steps": pipeline.num_steps if arguments.steps is None else arguments.steps,
        "guidance_scale": pipeline.guidance_scale if guidance_scale is None else guidance_scale,
        "sample_rate": pipeline.sample_rate,
        "device": str(pipeline.device),
        "weights": pipeline.weight_hashes(),
        "versions": versions(),
    }


def _write_clip(out: Path, waveform: Any, made: dict[str, Any]) -> None:
    from melody_cm.data import write_audio
    from melody_cm.storage import write_json

    words = "_".join(re.findall(r"\w+", made["prompt"].lower(), flags=re.ASCII))[:40].strip("_")
    stem = f"{made['clip_index']:03d}_{words}".rstrip("_")
    write_audio(out / f"{stem}.wav", waveform, made["sample_rate"])
    write_json(out / f"{stem}.json", made)
