"""Music out of a file, at constant memory, with new music after it or in a hole of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data import AudioInfo, AudioProblem, audio_info, read_audio, scan_audio, stream_audio
from melody_cm.interfaces import GeneratedAudio
from melody_cm.pipelines import AudioPrompt, EditingPipeline, PretrainedPipeline
from melody_cm.pipelines.request import MAX_PROMPT_SECONDS, Prompt

Blocks = Iterator[GeneratedAudio]


@dataclass(frozen=True)
class Settings:
    """What all ways to make new music are told: see `Pipeline.generate`."""

    seed: int
    num_steps: int | None
    guidance_scale: float | None

    def as_dict(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {"seed": self.seed, "num_steps": self.num_steps, "guidance_scale": self.guidance_scale}


def audio_prompt(path: Path, sample_rate: int) -> AudioPrompt:
    """The music of a file as a prompt.

    Raises:
        AudioProblem: it cannot be read, is silent or too long to be held in memory.
    """
    seconds = audio_info(path).seconds
    if seconds > MAX_PROMPT_SECONDS:
        raise AudioProblem(
            f"{path}: {seconds:.1f} s of audio prompt are too long to be held in memory; give at most "
            f"{MAX_PROMPT_SECONDS} s of it"
        )
    return AudioPrompt(read_audio(path, 0.0, None, sample_rate)[None, None], sample_rate)


def check_given(pipeline: PretrainedPipeline, path: Path) -> tuple[EditingPipeline, AudioInfo]:
    """The pipeline, if it can go on from music, and what the file's header says, if all of it is sound.

    Raises:
        AudioProblem: the file cannot be read, or is silent.
        ValueError: this system cannot continue or inpaint music.
    """
    if not isinstance(pipeline, EditingPipeline):
        raise ValueError(f"{type(pipeline).__name__} cannot continue or inpaint music; MeLoDy can")
    pipeline.check_editing()
    return pipeline, scan_audio(path, 0.0, None)


def continued(
    pipeline: PretrainedPipeline, path: Path, seconds: float, prompts: Sequence[Prompt], count: int, settings: Settings
) -> Blocks:
    """The music of a file and what follows it, `seconds` together, `count` times; checked before it begins.

    Raises:
        ValueError, AudioProblem: as `check_given`; too little music, or not less than `seconds` of it.
    """
    editor, info = check_given(pipeline, path)
    if seconds <= info.seconds:
        raise ValueError(
            f"{path}: {info.seconds:g} s long, but --seconds {seconds:g} counts it and what follows together; ask for "
            "more"
        )
    new_seconds = seconds - info.seconds
    start = max(0.0, info.seconds - editor.context_seconds)
    go_on = partial(editor.stream_continuation, prompts=prompts or None, **settings.as_dict())
    # Checks all that can be refused before anything is written; the generator that it returns does not run.
    go_on(_rows(read_audio(path, start, None, editor.sample_rate), count), editor.sample_rate, new_seconds)

    def blocks() -> Blocks:
        fade, context = editor.timeline.fade, round(editor.context_seconds * editor.sample_rate)
        read, held = 0, torch.empty(0)  # The last `fade` samples held are not yet given away.
        for block in stream_audio(path, editor.sample_rate):
            fresh = max(0, len(held) - fade)
            held = torch.cat([held, block])
            yield _given(held[fresh : max(fresh, len(held) - fade)], count, editor)
            held, read = held[-context:], read + len(block)
        samples = round(seconds * editor.sample_rate) - read
        yield from go_on(_rows(held, count), editor.sample_rate, samples / editor.sample_rate)

    return blocks()


def inpainted(
    pipeline: PretrainedPipeline,
    path: Path,
    hole: tuple[float, float],
    prompts: Sequence[Prompt],
    count: int,
    settings: Settings,
) -> Blocks:
    """The music of a file with new music in a hole from one second to another, `count` times.

    The hole is filled first, then the file is read from its beginning.

    Raises:
        ValueError, AudioProblem: as `check_given`; a hole that cannot be filled.
    """
    editor, info = check_given(pipeline, path)
    rate, window = editor.sample_rate, editor.hole(info.seconds, *hole).window
    music = read_audio(path, window.start / rate, (window.stop - window.start) / rate, rate)
    begin, end = (second - window.start / rate for second in hole)
    filled = editor.inpaint(_rows(music, count), rate, begin, end, prompts or None, **settings.as_dict())

    def blocks() -> Blocks:
        place = 0
        for block in stream_audio(path, rate):
            first, last = (min(max(0, edge - place), len(block)) for edge in (window.start, window.start + len(music)))
            yield _given(block[:first], count, editor)
            if place <= window.start < place + len(block):
                yield filled
            yield _given(block[last:], count, editor)
            place += len(block)

    return blocks()


def sample_bytes(path: Path | None) -> int:
    """Bytes a sample that hold what the file holds: 3 where it has more than 16 bits, else 2."""
    fine = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    return 3 if path is not None and soundfile.info(path).subtype in fine else 2


def _rows(music: Float[Tensor, " t"], count: int) -> Float[Tensor, "b 1 t"]:
    return music.expand(count, 1, -1)


def _given(music: Float[Tensor, " t"], count: int, pipeline: EditingPipeline) -> GeneratedAudio:
    return GeneratedAudio(_rows(music, count), pipeline.sample_rate, {})
