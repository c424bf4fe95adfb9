"""`melody-cm generate`: prompts, or music to go on from, to WAV files, each with a JSON that says how it was made."""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.interfaces import GeneratedAudio
    from melody_cm.pipelines import PretrainedPipeline


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("generate", help="make music from prompts", description=__doc__)
    parser.add_argument("pipeline", metavar="DIR", help="a folder written by `melody-cm export`, or owner/name")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="one clip each; may be repeated")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line (# comments)")
    parser.add_argument(
        "--audio-prompt", action="append", default=[], type=Path, metavar="SOUND", help="music in place of a text"
    )
    parser.add_argument("--seconds", type=float, help="length of every clip, given music included")
    parser.add_argument(
        "--prompt-at",
        action="append",
        default=[],
        metavar="SECONDS:TEXT",
        help="from then on this text holds, in long music of MusicCM; may be repeated",
    )
    parser.add_argument("--loop", action="store_true", help="the end goes over into the beginning (MusicCM)")
    parser.add_argument(
        "--windows", choices=("shared", "independent"), default="shared", help="of long music of MusicCM"
    )
    parser.add_argument("--continue-from", type=Path, metavar="SOUND", help="go on from the end of this music")
    parser.add_argument("--inpaint", type=Path, metavar="SOUND", help="make a part of this music anew")
    parser.add_argument("--from", dest="from_seconds", type=float, metavar="SECONDS", help="where that part begins")
    parser.add_argument("--to", dest="to_seconds", type=float, metavar="SECONDS", help="where that part ends")
    parser.add_argument("--seed", type=int, default=0, help="clip i sounds by (seed, i) alone (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's own)")
    parser.add_argument("--guidance-scale", type=float, help="1 = none (default: the pipeline's own)")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="not possible here; says why")
    parser.add_argument("--batch-size", type=int, default=8, help="clips made at a time (default: 8)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the WAV and JSON files")
    parser.set_defaults(handler=generate)


def generate(arguments: argparse.Namespace) -> int:
    """Load the pipeline, generate in batches, write every block of a batch when it is done."""
    names = read_prompts(arguments)
    _check(arguments)
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.pipelines import PretrainedPipeline

    pipeline = PretrainedPipeline.from_pretrained(arguments.pipeline)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    batches = _batches(pipeline, names, arguments)
    facts = _facts(pipeline, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = 0
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{facts['system']}, {facts['num_steps']} steps", total=len(names))
        for blocks in batches:
            clips = names[written : written + arguments.batch_size]
            made = [_made(name, written + index, facts, len(clips)) for index, name in enumerate(clips)]
            _write_clips(arguments.out, blocks, made, _source(arguments))
            written += len(clips)
            progress.update(task, completed=written)
    print(f"{written} clip(s) in {arguments.out}")
    return 0


def read_prompts(arguments: argparse.Namespace) -> list[str | Path | None]:
    """The prompts of the clips: texts, sound files, or None for given music that is its own prompt.

    Raises:
        FileNotFoundError, ValueError: no such file, no prompt at all, or texts beside audio prompts.
    """
    file: Path | None = arguments.prompts
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; --prompts takes a text file with one prompt a line")
    lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
    texts = [
        *arguments.prompt,
        *(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")),
    ]
    if texts and arguments.audio_prompt:
        raise ValueError("an audio prompt takes the place of a text; give --audio-prompt or --prompt, not both")
    if texts or arguments.audio_prompt:
        return [*texts, *arguments.audio_prompt]
    if arguments.prompt_at:
        return [_first_prompt(arguments)]
    if arguments.continue_from or arguments.inpaint:
        return [None]
    raise ValueError('there is no prompt; give --prompt "a calm piano melody" or --prompts FILE')


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is loaded."""
    if arguments.negative_prompt is not None:
        from melody_cm.pipelines.musiccm import NO_NEGATIVE_PROMPT

        raise ValueError(f"--negative-prompt: {NO_NEGATIVE_PROMPT}")
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
    if _arranged(arguments) and _source(arguments):
        raise ValueError("given music is gone on from as it is; leave --prompt-at, --loop and --windows out")
    prompt_times(arguments)
    if arguments.loop and arguments.windows == "independent":
        raise ValueError("independent windows make no loop: none knows its neighbour; use shared windows")
    if not arguments.inpaint and arguments.seconds is None:
        raise ValueError("how long is the music to be? Give --seconds")


def prompt_times(arguments: argparse.Namespace) -> list[tuple[float, str]]:
    """What --prompt-at says: (seconds, text).

    Raises:
        ValueError: no such form, or times that do not ascend within the music.
    """
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


def _first_prompt(arguments: argparse.Namespace) -> str:
    start, text = prompt_times(arguments)[0]
    if start > 0:
        raise ValueError(f"no prompt holds before {start:g} s; give --prompt, or --prompt-at 0:TEXT")
    return text


def _arranged(arguments: argparse.Namespace) -> bool:
    return bool(arguments.prompt_at or arguments.loop or arguments.windows != "shared")


def _arrangement(pipeline: "PretrainedPipeline", arguments: argparse.Namespace) -> dict[str, Any]:
    """How long music is to be laid out, as keyword arguments of the pipeline; empty if nothing was said."""
    from melody_cm.pipelines import MusicCM

    if not _arranged(arguments):
        return {}
    if not isinstance(pipeline, MusicCM):
        raise ValueError(
            f"{type(pipeline).__name__} takes no --prompt-at, --loop or --windows: its music grows from its beginning; "
            "MusicCM does"
        )
    return {"prompt_at": prompt_times(arguments), "loop": arguments.loop, "windows": arguments.windows}


def _source(arguments: argparse.Namespace) -> Path | None:
    return arguments.inpaint or arguments.continue_from


def _batches(
    pipeline: "PretrainedPipeline", names: Sequence[str | Path | None], arguments: argparse.Namespace
) -> "Iterator[Iterator[GeneratedAudio]]":
    """Clips in batches, each as a stream of blocks; what cannot be made is refused here."""
    from melody_cm.cli.given_music import Settings, audio_prompt, continued, inpainted
    from melody_cm.cli.growing_wav import check_size

    arranged = _arrangement(pipeline, arguments)
    prompts = [
        audio_prompt(name, pipeline.joint_embedding.sample_rate) if isinstance(name, Path) else name
        for name in names
        if name is not None
    ]
    settings = Settings(arguments.seed, arguments.steps, arguments.guidance_scale)
    if arguments.seconds is not None:
        check_size(arguments.seconds, pipeline.sample_rate)
    if (source := _source(arguments)) is None:
        options = {**settings.as_dict(), "batch_size": arguments.batch_size, **arranged}
        return pipeline.streams(prompts, arguments.seconds, **options)
    if len(names) > arguments.batch_size:
        raise ValueError(f"given music is worked on {arguments.batch_size} times at once; give fewer prompts")
    if arguments.inpaint:
        hole = (arguments.from_seconds, arguments.to_seconds)
        return iter([inpainted(pipeline, source, hole, prompts, len(names), settings)])
    return iter([continued(pipeline, source, arguments.seconds, prompts, len(names), settings)])


def _facts(pipeline: "PretrainedPipeline", arguments: argparse.Namespace) -> dict[str, Any]:
    from melody_cm.pipelines import Arrangement
    from melody_cm.storage.versions import versions

    guidance_scale = arguments.guidance_scale
    given = {
        "continued_from": arguments.continue_from and str(arguments.continue_from),
        "inpainted": arguments.inpaint
        and {"file": str(arguments.inpaint), "from": arguments.from_seconds, "to": arguments.to_seconds},
        **Arrangement(prompt_times(arguments), arguments.loop, arguments.windows).facts(),
    }
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
        **{what: value for what, value in given.items() if value},
    }


def _made(name: str | Path | None, index: int, facts: dict[str, Any], batch_size: int) -> dict[str, Any]:
    prompt = {"audio_prompt": str(name)} if isinstance(name, Path) else {}
    return {
        "prompt": name if isinstance(name, str) else None,
        **prompt,
        "clip_index": index,
        **facts,
        "batch_size": batch_size,
    }


def _write_clips(
    out: Path, blocks: "Iterator[GeneratedAudio]", made: Sequence[dict[str, Any]], source: Path | None
) -> None:
    """One WAV and one JSON a clip; what is finished is on disk, also when the rest is never made."""
    from melody_cm.cli.given_music import sample_bytes
    from melody_cm.cli.growing_wav import GrowingWav
    from melody_cm.storage import write_json

    stems = [_stem(clip, source) for clip in made]
    timings: dict[str, float] = {}
    with ExitStack() as stack:
        files = [
            stack.enter_context(GrowingWav(out / f"{stem}.wav", made[0]["sample_rate"], sample_bytes(source)))
            for stem in stems
        ]
        for block in blocks:
            for file, waveform in zip(files, block.waveform, strict=True):
                file.write(waveform)
            for part, seconds in block.timings.items():
                timings[part] = timings.get(part, 0.0) + seconds
    for stem, clip, file in zip(stems, made, files, strict=True):
        seconds = file.samples / clip["sample_rate"]
        write_json(out / f"{stem}.json", {**clip, "seconds": seconds, "timings": timings})


def _stem(made: dict[str, Any], source: Path | None) -> str:
    name = made["prompt"] or (Path(made["audio_prompt"]).stem if "audio_prompt" in made else source.stem)
    words = "_".join(re.findall(r"\w+", name.lower(), flags=re.ASCII))[:40].strip("_")
    return f"{made['clip_index']:03d}_{words}".rstrip("_")
