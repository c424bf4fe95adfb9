"""Sound files of any origin as clips: found, read ahead in threads, embedded one by one, given their prompts."""

import csv
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data import SPLITS, AudioProblem, Clip, open_corpus, read_audio, read_split
from melody_cm.data.manifest import MANIFEST_NAME, folder_files
from melody_cm.interfaces import AudioEmbedding
from melody_cm.signal import resample

MAX_WORKERS = 16
AHEAD = 4


def find_clips(path: str | Path, split: str | None = None) -> list[Clip]:
    """The clips of a folder of sound files, or those of one split of a manifest; nothing is decoded.

    In a plain folder only the sound files count, whatever text lies beside them, because it comes from any system.

    Raises:
        FileNotFoundError: there is nothing at the path; ValueError: no clip, or a split that does not exist.
    """
    place = Path(path)
    if place.is_dir() and not (place / MANIFEST_NAME).is_file():
        if split is not None:
            raise ValueError(f"{path} has no {MANIFEST_NAME}, so no split {split!r}; leave the split out")
        names = ((file, file.relative_to(place).as_posix()) for file in folder_files(place))
        clips = [Clip(name, file, 0.0, None, "test", [], name, str(file)) for file, name in names]
    else:
        clips = _of_split(list(open_corpus(str(path)).clips()), path, split)
    if not clips:
        raise ValueError(f"{path}: no sound files; evaluation reads .wav, .flac, .ogg, .opus and .mp3")
    return clips


def _of_split(clips: list[Clip], path: str | Path, split: str | None) -> list[Clip]:
    if split is None:
        return clips
    split = read_split(split)
    chosen = [clip for clip in clips if clip.split == split]
    if not chosen:
        counts = ", ".join(f"{sum(clip.split == name for clip in clips)} {name}" for name in SPLITS)
        raise ValueError(f"{path} has no clip of split {split!r}; it has {counts}")
    return chosen


@torch.no_grad()
def embed(embedding: AudioEmbedding, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b l d"]:
    """The embedding of audio at any sample rate (Hz)."""
    return embedding(resample(waveform, sample_rate, embedding.sample_rate))


def embed_clips(
    clips: Iterable[Clip],
    embedding: AudioEmbedding,
    on_drop: Callable[[tuple[str, str]], Any],
    on_clip: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[Clip, Float[Tensor, "1 l d"]]]:
    """Every usable clip with its embedding, in order; memory does not grow with the number of clips.

    Args:
        on_drop: called with the reason ("silent", "empty", ...) and a message that names the file, of every clip that
            is left out: unreadable, silent, too short, not finite.
        on_clip: called after every clip, for a progress bar.
    """
    for clip, waveform in read_ahead(clips, embedding.sample_rate):
        try:
            if isinstance(waveform, AudioProblem):
                raise waveform
            frames = embed(embedding, waveform[None, None], embedding.sample_rate).cpu()
            if not frames.isfinite().all():
                raise AudioProblem(f"{clip.audio}: its embedding is not finite", "not finite")
        except ValueError as problem:
            message = str(problem) if str(clip.audio) in str(problem) else f"{clip.audio}: {problem}"
            on_drop((getattr(problem, "reason", "other"), message))
        else:
            yield clip, frames
        on_clip()


def read_ahead(clips: Iterable[Clip], sample_rate: int) -> Iterator[tuple[Clip, Tensor | AudioProblem]]:
    """Every clip in order with its mono waveform (t,) at `sample_rate` Hz, or with what is wrong with it.

    Decoding and resampling release Python's lock, so threads read on all cores; a few clips are held at a time.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Clip, Future]] = deque()
    try:
        for clip in clips:
            waiting.append((clip, pool.submit(_read, clip, sample_rate)))
            if len(waiting) > AHEAD * workers:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(clip: Clip, sample_rate: int) -> Tensor | AudioProblem:
    try:
        return read_audio(clip.audio, clip.start, clip.duration, sample_rate)
    except AudioProblem as problem:
        return problem


def read_clip_prompts(path: str | Path, clips: Sequence[Clip]) -> dict[str, str]:
    """The prompt of every clip by its id.

    Args:
        path: a `.jsonl` or `.csv` with the fields `file` (path in the folder, or the file's name) and `caption`; in any
            other file the lines that are not empty are the prompts of the clips in their (sorted) order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another number of prompts than clips, a clip without one, or a prompt for a file that is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of prompts")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    readers = {".csv": lambda: csv.DictReader(io.StringIO(text)), ".jsonl": lambda: map(json.loads, lines)}
    try:
        prompts = list(readers[path.suffix]()) if path.suffix in readers else lines
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {error.doc[:60]!r} is not JSON ({error})") from error
    if len(prompts) != len(clips):
        raise ValueError(
            f"{path}: {len(prompts)} prompts for {len(clips)} sound files; give one for each, in sorted order"
        )
    if path.suffix in readers:
        return _by_name(path, prompts, clips)
    return {clip.id: line for clip, line in zip(clips, lines, strict=True)}


def _by_name(path: Path, rows: Sequence[Any], clips: Sequence[Clip]) -> dict[str, str]:
    captions: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        file, caption = (row.get(name) if isinstance(row, dict) else None for name in ("file", "caption"))
        if not all(isinstance(value, str) and value.strip() for value in (file, caption)):
            raise ValueError(f"{path}, row {number}: the texts 'file' and 'caption' are needed, not {row!r}")
        if file in captions:
            raise ValueError(f"{path}, row {number}: {file!r} is named twice; give every file one prompt")
        captions[file] = caption.strip()
    found = {clip.id: captions.pop(clip.id, None) or captions.pop(clip.audio.name, None) for clip in clips}
    if captions:  # There are as many prompts as files, so one that is left over is missing elsewhere.
        missing = next(name for name, caption in found.items() if caption is None)
        raise ValueError(f"{path}: no prompt for {missing!r}, but one for {next(iter(captions))!r}, which is not there")
    return found
