"""Make sound files from prompts or from given music; a JSON beside each says how it was made."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

import melody_cm
from melody_cm.cli.options import add_placement, add_quantize, chosen_placement

SURROGATE = re.compile("[\ud800-\udfff]")  # What Python makes of bytes of the command line that are not UTF-8.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("pipeline", metavar="SYSTEM", help="a folder of `melody-cm export`, demo:NAME or owner/name")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="text of a clip; may be repeated")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts: a text file with one a line, a .csv or a .jsonl"
    )
    parser.add_argument(
        "--prompt-column", metavar="NAME", help="column of that table (default: prompt, caption or text)"
    )
    parser.add_argument(
        "--audio-prompt",
        action="append",
        default=[],
        type=Path,
        metavar="SOUND",
        help="music in place of a text prompt; may be repeated",
    )
    parser.add_argument(
        "--seconds", type=float, help="length of every clip, given music included; needed unless --inpaint is given"
    )
    parser.add_argument(
        "--prompt-at",
        action="append",
        default=[],
        metavar="SECONDS:TEXT",
        help="MusicCM: the prompt from this time on; may be repeated",
    )
    parser.add_argument("--loop", action="store_true", help="MusicCM: the end leads back into the beginning")
    parser.add_argument(
        "--windows",
        choices=("shared", "independent"),
        default="shared",
        help="MusicCM, music longer than trained: overlapping windows (default: shared) or separate ones",
    )
    parser.add_argument("--continue-from", type=Path, metavar="SOUND", help="MeLoDy: continue this music")
    parser.add_argument(
        "--inpaint", type=Path, metavar="SOUND", help="MeLoDy: replace the part of this music between --from and --to"
    )
    parser.add_argument(
        "--from", dest="from_seconds", type=float, metavar="SECONDS", help="where the replaced part begins"
    )
    parser.add_argument("--to", dest="to_seconds", type=float, metavar="SECONDS", help="where the replaced part ends")
    parser.add_argument("--seed", type=int, default=0, help="clip i depends on the seed and i only (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's own)")
    parser.add_argument("--guidance-scale", type=float, help="1: no guidance (default: the pipeline's own)")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="not supported by any system; prints why")
    parser.add_argument("--batch-size", type=int, default=8, help="clips made at a time (default: 8)")
    add_placement(parser, "the networks")
    add_quantize(parser)
    out = "folder for WAV and JSON files; or one .wav, .flac, .ogg or .mp3; or - for a WAV on standard output"
    parser.add_argument("--out", type=Path, required=True, help=out)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace clips of the same name that were made otherwise"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check that the options go together, then write one clip after another."""
    _check(arguments)
    times = _prompt_times(arguments)
    prompts = _prompts(arguments, times)
    bar = Progress(console=Console(stderr=True))
    steps = bar.add_task("denoising steps", total=None)
    request = melody_cm.Request(
        prompts=prompts,
        seconds=arguments.seconds,
        seed=arguments.seed,
        num_steps=arguments.steps,
        guidance_scale=arguments.guidance_scale,
        prompt_at=times,
        loop=arguments.loop,
        windows=arguments.windows,
        negative_prompt=arguments.negative_prompt,
        progress=lambda step, num_steps: bar.update(steps, completed=step, total=num_steps),
    )
    if str(arguments.out) == "-":
        return _to_standard_output(arguments, request)
    hole = (arguments.inpaint, arguments.from_seconds, arguments.to_seconds) if arguments.inpaint else None
    clips = max(1, len(prompts) + len(arguments.audio_prompt))
    music = bar.add_task("seconds of music", total=clips * arguments.seconds if arguments.seconds else None)
    files = melody_cm.generate_files(
        arguments.pipeline,
        request,
        arguments.out,
        arguments.batch_size,
        audio_prompts=arguments.audio_prompt,
        continue_from=arguments.continue_from,
        inpaint=hole,
        overwrite=arguments.overwrite,
        placement=chosen_placement(arguments),
        on_block=lambda seconds: bar.advance(music, seconds),
    )
    with bar:
        written = len(list(files))
        for task in (steps, music):  # What was made before is done too.
            bar.update(task, total=1, completed=1)
    print(f"{written} clip(s) in {arguments.out}")
    return 0


def _to_standard_output(arguments: argparse.Namespace, request: Any) -> int:
    """One clip as a WAV that is written while it is made."""
    if arguments.continue_from or arguments.inpaint or arguments.audio_prompt:
        raise ValueError("--out - writes the music of one text; give a folder or a file for given music")
    pipeline = melody_cm.load(arguments.pipeline, arguments.device, arguments.precision, arguments.quantize)
    melody_cm.stream_wav(pipeline.stream(request), arguments.seconds, sys.stdout.buffer)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.inpaint and arguments.continue_from:
        raise ValueError("music is either continued or inpainted; give --continue-from or --inpaint, not both")
    hole = (arguments.from_seconds, arguments.to_seconds)
    if arguments.inpaint and None in hole:
        raise ValueError("--inpaint needs the part that is made anew; give --from SECONDS and --to SECONDS")
    if arguments.inpaint and arguments.seconds is not None:
        raise ValueError("with --inpaint the music keeps its length; leave --seconds out")
    if not arguments.inpaint and hole != (None, None):
        raise ValueError("--from and --to say what --inpaint makes anew; give --inpaint SOUND with them")
    if arguments.inpaint and not 0 <= hole[0] < hole[1]:
        raise ValueError(f"--from {hole[0]:g} --to {hole[1]:g} is no part of any music; --from must be below --to")
    arranged = arguments.prompt_at or arguments.loop or arguments.windows != "shared"
    if arranged and (arguments.inpaint or arguments.continue_from):
        raise ValueError("given music is gone on from as it is; leave --prompt-at, --loop and --windows out")
    if not arguments.inpaint and arguments.seconds is None:
        raise ValueError("how long is the music to be? Give --seconds")


def _prompts(arguments: argparse.Namespace, times: list[tuple[float, str]]) -> list[str]:
    """The texts of the clips; none where music takes their place."""
    texts = list(arguments.prompt)
    if arguments.prompts:
        texts += melody_cm.read_prompts(arguments.prompts, arguments.prompt_column)
    if unreadable := [text for text in [*texts, *(text for _, text in times)] if SURROGATE.search(text)]:
        raise ValueError(f"the prompt {unreadable[0]!r} is not UTF-8 text; write it anew")
    if texts and arguments.audio_prompt:
        raise ValueError("an audio prompt takes the place of a text; give --audio-prompt or --prompt, not both")
    if texts or arguments.audio_prompt or arguments.continue_from or arguments.inpaint:
        return texts
    if not times:
        raise ValueError('there is no prompt; give --prompt "a calm piano melody" or --prompts FILE')
    if times[0][0] > 0:
        raise ValueError(f"no prompt holds before {times[0][0]:g} s; give --prompt, or --prompt-at 0:TEXT")
    return [times[0][1]]


def _prompt_times(arguments: argparse.Namespace) -> list[tuple[float, str]]:
    """What --prompt-at says: (seconds, text)."""
    times: list[tuple[float, str]] = []
    for given in arguments.prompt_at:
        place, _, text = given.partition(":")
        if not (re.fullmatch(r"\d+(\.\d*)?|\.\d+", place.strip()) and text.strip()):
            raise ValueError(f'--prompt-at {given!r} is not SECONDS:TEXT; give it as in "30:drums enter"')
        times.append((float(place), text.strip()))
        if len(times) > 1 and times[-1][0] <= times[-2][0]:
            raise ValueError(f"--prompt-at {given!r} is not after {times[-2][0]:g} s; give ascending times")
        if arguments.seconds is not None and times[-1][0] >= arguments.seconds:
            raise ValueError(f"--prompt-at {given!r} is beyond the {arguments.seconds:g} s of --seconds; give less")
    return times
