"""From prompts and sound files to WAV files that grow while the music is made, each with a JSON that says how."""

import os
import re
import wave
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data import AudioInfo, AudioProblem, audio_info, read_audio, scan_audio, stream_audio
from melody_cm.interfaces import GeneratedAudio
from melody_cm.pipelines.editing import EditingPipeline
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import MAX_PROMPT_SECONDS, AudioPrompt, Request
from melody_cm.storage import write_json
from melody_cm.storage.versions import versions

Blocks = Iterator[GeneratedAudio]
MAX_BYTES = 2**32 - 100  # A WAV file counts its bytes with 32 bits.


def generate_files(
    source: PretrainedPipeline | Path | str,
    request: Request,
    out: Path,
    batch_size: int = 8,
    audio_prompts: Sequence[Path] = (),
    continue_from: Path | None = None,
    inpaint: tuple[Path, float, float] | None = None,
) -> Iterator[Path]:
    """One WAV and one JSON for each clip of a request; all of it is checked before anything is made or written.

    Args:
        source: a pipeline, or where one was saved (see `PretrainedPipeline.from_pretrained`).
        out: the folder of the files; made if it is not there.
        batch_size: clips that are made at a time.
        audio_prompts: sound files in the place of the request's prompts.
        continue_from: a sound file whose music goes on; `request.seconds` counts both.
        inpaint: a sound file, and from where to where (seconds) it is made anew.

    Returns:
        The WAV files, one after another, each when it is finished. What was written stays, should an error come.

    Raises:
        ValueError, FileNotFoundError: what cannot be made.
    """
    loaded = isinstance(source, PretrainedPipeline)
    pipeline = source if loaded else PretrainedPipeline.from_pretrained(source)
    if not loaded:
        pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    if audio_prompts:
        rate = pipeline.joint_embedding.sample_rate
        request = replace(request, prompts=[read_prompt(path, rate) for path in audio_prompts])
    if request.seconds is not None:
        check_size(request.seconds, pipeline.sample_rate)
    given = inpaint[0] if inpaint else continue_from
    if given is None:
        batches = pipeline.streams(request, batch_size)
    elif len(request.prompts) > batch_size:
        raise ValueError(f"given music is worked on {batch_size} times at once; give fewer prompts")
    elif inpaint:
        batches = iter([inpainted(pipeline, *inpaint, request)])
    else:
        batches = iter([continued(pipeline, given, request)])
    facts = _facts(pipeline, None if loaded else str(source), request, continue_from, inpaint)
    names = list(audio_prompts or request.prompts) or [None]
    return _write_all(Path(out), batches, names, batch_size, facts, given)


def read_prompt(path: Path, sample_rate: int) -> AudioPrompt:
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


def continued(pipeline: PretrainedPipeline, path: Path, request: Request) -> Blocks:
    """The music of a file and what follows it, at constant memory, one clip a prompt; checked before it begins.

    Raises:
        ValueError, AudioProblem: the system cannot continue music; a file that cannot be read, is silent or too short,
            or has not less than `request.seconds` of music.
    """
    editor, info = _open_given(pipeline, path)
    seconds = request.seconds or 0.0
    if seconds <= info.seconds:
        raise ValueError(
            f"{path}: {info.seconds:g} s long, but --seconds {seconds:g} counts it and what follows together; ask for "
            "more"
        )
    count, rate = max(1, len(request.prompts)), editor.sample_rate

    def go_on(end: Float[Tensor, " t"], new_seconds: float) -> Blocks:
        return editor.stream_continuation(_rows(end, count), rate, replace(request, seconds=new_seconds))

    # Checks all that can be refused before anything is written; the generator that it returns does not run.
    start = max(0.0, info.seconds - editor.context_seconds)
    go_on(read_audio(path, start, None, rate), seconds - info.seconds)

    def blocks() -> Blocks:
        fade, context = editor.timeline.fade, round(editor.context_seconds * rate)
        read, held = 0, torch.empty(0)  # The last `fade` samples held are not yet given away.
        for block in stream_audio(path, rate):
            fresh = max(0, len(held) - fade)
            held = torch.cat([held, block])
            yield GeneratedAudio(_rows(held[fresh : max(fresh, len(held) - fade)], count), rate, {})
            held, read = held[-context:], read + len(block)
        yield from go_on(held, (round(seconds * rate) - read) / rate)

    return blocks()


def inpainted(
    pipeline: PretrainedPipeline, path: Path, from_seconds: float, to_seconds: float, request: Request
) -> Blocks:
    """The music of a file with new music in a hole, at constant memory, one clip a prompt.

    The hole is filled first, then the file is read from its beginning.

    Raises:
        ValueError, AudioProblem: the system cannot inpaint music; a file that cannot be read, or a hole that cannot be
            filled.
    """
    editor, info = _open_given(pipeline, path)
    count, rate = max(1, len(request.prompts)), editor.sample_rate
    window = editor.hole(info.seconds, from_seconds, to_seconds).window
    music = read_audio(path, window.start / rate, (window.stop - window.start) / rate, rate)
    begin, end = (second - window.start / rate for second in (from_seconds, to_seconds))
    filled = editor.inpaint(_rows(music, count), rate, begin, end, request)

    def blocks() -> Blocks:
        place = 0
        for block in stream_audio(path, rate):
            first, last = (min(max(0, edge - place), len(block)) for edge in (window.start, window.start + len(music)))
            yield GeneratedAudio(_rows(block[:first], count), rate, {})
            if place <= window.start < place + len(block):
                yield filled
            yield GeneratedAudio(_rows(block[last:], count), rate, {})
            place += len(block)

    return blocks()


def check_size(seconds: float | int, sample_rate: int) -> None:
    """Refuse lengths that no WAV file holds.

    Raises:
        ValueError: more than 4 GiB of 24-bit samples.
    """
    longest = MAX_BYTES / 3 / sample_rate
    if seconds > longest:
        raise ValueError(f"{seconds:g} seconds asked for, but a WAV file at {sample_rate} Hz holds {longest:.0f} s")


class GrowingWav:
    """Mono PCM, block after block; its header is right after each, so whatever stops the writing leaves all before.

    Until it is finished its name ends in `.partial.wav`; so it does if the block in which it is used raises an error.
    A sample x is stored as round(x * 2^15) (or 2^23), so that samples that were read from such a file come back as
    they were.

    Args:
        path: of the finished file, which replaces an older one.
        sample_rate: Hz.
        sample_bytes: 2 or 3 a sample.
    """

    def __init__(self, path: Path, sample_rate: int, sample_bytes: int = 2) -> None:
        self.path, self.partial = path, path.with_suffix(".partial.wav")
        self.sample_rate, self.sample_bytes = sample_rate, sample_bytes
        self.samples = 0

    def __enter__(self) -> "GrowingWav":
        self._file = self.partial.open("wb")
        self._wav = wave.open(self._file, "wb")
        self._wav.setparams((1, self.sample_bytes, self.sample_rate, 0, "NONE", ""))
        return self

    def write(self, waveform: Float[Tensor, "1 t"]) -> None:
        """Add samples in [-1, 1]."""
        full = 2 ** (8 * self.sample_bytes - 1)
        integers = (waveform[0].double() * full).round().clamp(-full, full - 1).int().cpu()
        data = integers.contiguous().view(torch.uint8).reshape(len(integers), 4)[:, : self.sample_bytes]
        self._wav.writeframes(data.contiguous().numpy().tobytes())
        self._file.flush()
        self.samples += waveform.shape[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._wav.close()
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self.partial.replace(self.path)
        elif not self.samples:
            self.partial.unlink()


def _open_given(pipeline: PretrainedPipeline, path: Path) -> tuple[EditingPipeline, AudioInfo]:
    """The pipeline, if it can go on from music, and what the file's header says, if all of it is sound."""
    if not isinstance(pipeline, EditingPipeline):
        raise ValueError(f"{type(pipeline).__name__} cannot continue or inpaint music; MeLoDy can")
    pipeline.check_editing()
    return pipeline, scan_audio(path, 0.0, None)


def _rows(music: Float[Tensor, " t"], count: int) -> Float[Tensor, "b 1 t"]:
    return music.expand(count, 1, -1)


def _facts(
    pipeline: PretrainedPipeline,
    source: str | None,
    request: Request,
    continue_from: Path | None,
    inpaint: tuple[Path, float, float] | None,
) -> dict[str, Any]:
    """What all clips have in common, as plain data."""
    hole = dict(zip(("file", "from", "to"), (str(inpaint[0]), *inpaint[1:]), strict=True)) if inpaint else None
    given = {"continued_from": str(continue_from) if continue_from else None, "inpainted": hole}
    return {
        "system": type(pipeline).__name__,
        "pipeline": source,
        "seed": request.seed if isinstance(request.seed, int) else list(request.seed),
        "num_steps": pipeline.num_steps if request.num_steps is None else request.num_steps,
        "guidance_scale": pipeline.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        "sample_rate": pipeline.sample_rate,
        "device": str(pipeline.device),
        "weights": pipeline.weight_hashes(),
        "versions": versions(),
        **{what: value for what, value in given.items() if value},
        **request.arrangement(),
    }


def _write_all(
    out: Path,
    batches: Iterator[Blocks],
    names: Sequence[Any],
    batch_size: int,
    facts: dict[str, Any],
    given: Path | None,
) -> Iterator[Path]:
    out.mkdir(parents=True, exist_ok=True)
    clips = list(enumerate(names))
    for first, blocks in zip(range(0, len(clips), batch_size), batches, strict=True):
        some = clips[first : first + batch_size]
        made = [{**_prompt(name), "clip_index": index, **facts, "batch_size": len(some)} for index, name in some]
        paths = [out / f"{_stem(index, name or given)}.wav" for index, name in some]
        yield from _write_clips(paths, blocks, made, _sample_bytes(given))


def _write_clips(
    paths: Sequence[Path], blocks: Blocks, made: Sequence[dict[str, Any]], sample_bytes: int
) -> Sequence[Path]:
    """The files of one batch; what is finished is on disk, also when the rest is never made."""
    timings: dict[str, float] = {}
    with ExitStack() as stack:
        rate = made[0]["sample_rate"]
        files = [stack.enter_context(GrowingWav(path, rate, sample_bytes)) for path in paths]
        for block in blocks:
            for file, waveform in zip(files, block.waveform, strict=True):
                file.write(waveform)
            for part, seconds in block.timings.items():
                timings[part] = timings.get(part, 0.0) + seconds
    for file, clip in zip(files, made, strict=True):
        write_json(file.path.with_suffix(".json"), {**clip, "seconds": file.samples / rate, "timings": timings})
    return paths


def _prompt(name: Any) -> dict[str, Any]:
    text = {"prompt": name if isinstance(name, str) else None}
    return {**text, "audio_prompt": str(name)} if isinstance(name, Path) else text


def _stem(index: int, name: Any) -> str:
    """The clip's number and the first words of its prompt, or of the name of the file that it is made from."""
    text = name.stem if isinstance(name, Path) else name if isinstance(name, str) else ""
    words = "_".join(re.findall(r"\w+", text.lower(), flags=re.ASCII))[:40].strip("_")
    return f"{index:03d}_{words}".rstrip("_")


def _sample_bytes(given: Path | None) -> int:
    """Bytes a sample that hold what a file holds: 3 where it has more than 16 bits, else 2."""
    fine = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    return 3 if given is not None and soundfile.info(given).subtype in fine else 2
