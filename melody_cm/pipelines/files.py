"""From prompts and sound files to WAV files that grow while the music is made, each with a JSON that says how."""

import os
import re
import wave
from collections import Counter
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
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # Sound files of more than 16 bits a sample.


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
    pipeline = source if isinstance(source, PretrainedPipeline) else _load(source)
    if audio_prompts:
        rate = pipeline.joint_embedding.sample_rate
        request = replace(request, prompts=[read_prompt(path, rate) for path in audio_prompts])
    if request.seconds is not None:
        check_size(request.seconds, pipeline.sample_rate)
    given, facts = inpaint[0] if inpaint else continue_from, _facts(pipeline, source, request)
    if given is not None and len(request.prompts) > batch_size:
        raise ValueError(f"given music is worked on {batch_size} times at once; give fewer prompts")
    if inpaint:
        facts["inpainted"] = dict(zip(("file", "from", "to"), (str(given), *inpaint[1:]), strict=True))
        batches = iter([inpainted(pipeline, *inpaint, request)])
    elif given is not None:
        facts["continued_from"] = str(given)
        batches = iter([continued(pipeline, given, request)])
    else:
        batches = pipeline.streams(request, batch_size)
    return _write(Path(out), batches, list(audio_prompts or request.prompts) or [None], batch_size, facts, given)


def _load(source: Path | str) -> PretrainedPipeline:
    return PretrainedPipeline.from_pretrained(source).to("cuda" if torch.cuda.is_available() else "cpu")


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


def _facts(pipeline: PretrainedPipeline, source: Any, request: Request) -> dict[str, Any]:
    """What all clips have in common, as plain data."""
    return {
        "system": type(pipeline).__name__,
        "pipeline": None if source is pipeline else str(source),
        "seed": request.seed if isinstance(request.seed, int) else list(request.seed),
        "num_steps": pipeline.num_steps if request.num_steps is None else request.num_steps,
        "guidance_scale": pipeline.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        "sample_rate": pipeline.sample_rate,
        "device": str(pipeline.device),
        "weights": pipeline.weight_hashes(),
        "versions": versions(),
        **request.arrangement(),
    }


def _write(
    out: Path, batches: Iterator[Blocks], prompts: Sequence[Any], batch_size: int, facts: dict[str, Any], given: Any
) -> Iterator[Path]:
    """The files of one batch after another; what is finished is on disk, also when the rest is never made."""
    out.mkdir(parents=True, exist_ok=True)
    numbered = list(enumerate(prompts))
    for first, blocks in zip(range(0, len(prompts), batch_size), batches, strict=True):
        clips, timings = numbered[first : first + batch_size], Counter()
        with ExitStack() as stack:
            paths = [out / f"{_stem(index, prompt or given)}.wav" for index, prompt in clips]
            wavs = [GrowingWav(path, facts["sample_rate"], _sample_bytes(given)) for path in paths]
            files = [stack.enter_context(wav) for wav in wavs]
            for block in blocks:
                for file, waveform in zip(files, block.waveform, strict=True):
                    file.write(waveform)
                timings.update(block.timings)
        for file, (index, prompt) in zip(files, clips, strict=True):
            made = {"prompt": prompt if isinstance(prompt, str) else None, "clip_index": index, **facts}
            made |= {"audio_prompt": str(prompt)} if isinstance(prompt, Path) else {}
            made |= {"batch_size": len(clips), "seconds": file.samples / file.sample_rate, "timings": dict(timings)}
            write_json(file.path.with_suffix(".json"), made)
            yield file.path


def _stem(index: int, prompt: Any) -> str:
    """The clip's number and the first words of its prompt, or of the name of the file that it is made from."""
    text = prompt.stem if isinstance(prompt, Path) else prompt if isinstance(prompt, str) else ""
    words = "_".join(re.findall(r"\w+", text.lower(), flags=re.ASCII))[:40].strip("_")
    return f"{index:03d}_{words}".rstrip("_")


def _sample_bytes(given: Path | None) -> int:
    """Bytes a sample that hold what a file holds: 3 where it has more than 16 bits, else 2."""
    return 3 if given is not None and soundfile.info(given).subtype in FINE else 2
