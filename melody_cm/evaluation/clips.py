"""Sound files of any origin as clips: found, read ahead in threads, embedded one by one, given their prompts."""

import math
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data import SPLITS, AudioProblem, Clip, audio_info, open_corpus, read_audio, read_split
from melody_cm.data.audio_files import AUDIO_SUFFIXES
from melody_cm.data.clips import load_row
from melody_cm.data.folders import scan_folder
from melody_cm.data.manifest import MANIFEST_NAME
from melody_cm.data.texts import TABLES, by_numbers, printable, read_lines, read_prompts, read_text
from melody_cm.interfaces import AudioEmbedding
from melody_cm.placement import Placement, at_least_fp32
from melody_cm.signal import resample
from melody_cm.storage import located, read_whole

MAX_WORKERS = 16
AHEAD = 4
# Longer clips are not held in memory, but embedded in pieces.
LONG_SECONDS, PIECE_SECONDS = 300.0, 60.0


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
        names = ((file, printable(file.relative_to(place).as_posix())) for file in scan_folder(place).files)
        clips = [Clip(name, file, 0.0, None, "test", [], name, printable(str(file))) for file, name in names]
    else:
        clips = list(open_corpus(str(path)).clips())
        if split is not None:
            clips = _of_split(clips, path, read_split(split))
    if not clips:
        raise ValueError(f"{path}: no sound files; evaluation reads {', '.join(AUDIO_SUFFIXES)}")
    return clips


def _of_split(clips: list[Clip], path: str | Path, split: str) -> list[Clip]:
    chosen = [clip for clip in clips if clip.split == split]
    if not chosen:
        counts = ", ".join(f"{sum(clip.split == name for clip in clips)} {name}" for name in SPLITS)
        raise ValueError(f"{path} has no clip of split {split!r}; it has {counts}")
    return chosen


def pair_clips(generated: Sequence[Clip], reference: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
    """Every generated clip with the reference clip of the same id, but for the suffix of a sound file.

    Raises:
        ValueError: there is none, or there are two.
    """
    named: dict[str, Clip] = {}
    for clip in reference:
        if named.setdefault(_name(clip), clip) is not clip:
            raise ValueError(f"two reference clips are named {_name(clip)!r}; give each generated clip one")
    for clip in generated:
        if _name(clip) not in named:
            raise ValueError(f"no reference clip is named {_name(clip)!r}, as --paired needs; it may have any suffix")
    return [(clip, named[_name(clip)]) for clip in generated]


def _name(clip: Clip) -> str:
    return clip.id.removesuffix(clip.audio.suffix)


def embed(embedding: AudioEmbedding, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b l d"]:
    """The embedding of audio at any sample rate (Hz), made and left where the embedding is."""
    placement = Placement.of([embedding])
    with placement.computing():
        heard = resample(waveform, sample_rate, embedding.sample_rate).to(placement.device)
        return at_least_fp32(embedding(heard))


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
    for clip, waveform in read_ahead(clips, embedding.sample_rate, LONG_SECONDS):
        try:
            if isinstance(waveform, AudioProblem):
                raise waveform
            pieces = _pieces(clip, embedding.sample_rate) if waveform is None else [waveform]
            each = [embed(embedding, piece[None, None], embedding.sample_rate).cpu() for piece in pieces]
            frames = torch.cat(each, dim=1)
            if not frames.isfinite().all():
                raise AudioProblem(f"{clip.audio}: its embedding is not finite", "not finite")
        except ValueError as problem:
            audio = printable(str(clip.audio))
            message = str(problem) if audio in str(problem) else f"{audio}: {problem}"
            on_drop((getattr(problem, "reason", "other"), message))
        else:
            yield clip, frames
        on_clip()


def _pieces(clip: Clip, sample_rate: int) -> Iterator[Tensor]:
    """A long clip as pieces of equal length, without those that are silent.

    Raises:
        AudioProblem: one is bad, or all are silent.
    """
    seconds, silent = _seconds(clip), []
    count = math.ceil(seconds / PIECE_SECONDS)
    for number in range(count):
        try:
            yield read_audio(clip.audio, clip.start + number * seconds / count, seconds / count, sample_rate)
        except AudioProblem as problem:
            if problem.reason != "silent":
                raise
            silent.append(problem)
    if len(silent) == count:
        raise silent[0]


def _seconds(clip: Clip) -> float:
    available = audio_info(clip.audio).seconds - clip.start
    return available if clip.duration is None else min(available, clip.duration)


def read_ahead(
    clips: Iterable[Clip], sample_rate: int, longest: float = math.inf
) -> Iterator[tuple[Clip, Tensor | AudioProblem | None]]:
    """Every clip in order with its mono waveform (t,) at `sample_rate` Hz, or with what is wrong with it; with None if
    it has more than `longest` seconds.

    Decoding and resampling release Python's lock, so threads read on all cores; a few clips are held at a time.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Clip, Future]] = deque()
    try:
        for clip in clips:
            waiting.append((clip, pool.submit(_read, clip, sample_rate, longest)))
            if len(waiting) > AHEAD * workers:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(clip: Clip, sample_rate: int, longest: float) -> Tensor | AudioProblem | None:
    try:
        if _seconds(clip) > longest:
            return None
        return read_audio(clip.audio, clip.start, clip.duration, sample_rate)
    except AudioProblem as problem:
        return problem


def read_clip_prompts(path: str | Path, clips: Sequence[Clip]) -> dict[str, str]:
    """The prompt of every clip by its id.

    Args:
        path: a `.jsonl` or `.csv` with the fields `file` (path in the folder, or the file's name) and `caption`, or
            any file that `generate` takes (`read_prompts`). Those are the prompts that the JSON files beside the clips
            name; where these are not there, they belong to the clips in the order of the numbers in their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another number of prompts than clips, a clip without one, a prompt for a file that is not there, or
            one that the JSON beside a clip contradicts.
    """
    path, told = Path(path), {clip.id: told_prompt(clip.audio) for clip in clips}
    rows = _named_rows(path) if path.suffix.lower() in TABLES else None
    names = {name for clip in clips for name in (clip.id, clip.audio.name)}
    # The files of a table may be of the music that its prompts were taken from.
    of_others = all(told.values()) and names.isdisjoint(str(row.get("file")) for row in rows or [])
    if rows is not None and (not rows or "file" in rows[0]) and not of_others:
        found = _by_name(path, rows, clips)
    elif clips and all(told.values()):
        lines = set(read_prompts(path))
        if unmade := sorted(lines - set(told.values())):
            raise ValueError(f"{path}: no clip of the prompt {unmade[0]!r}, by the JSON files beside the clips")
        found = {name: prompt if prompt in lines else None for name, prompt in told.items()}
    else:
        lines = read_prompts(path)
        _check_count(path, len(lines), clips)
        found = dict(zip(in_order(clip.id for clip in clips), lines, strict=True))
    for name, prompt in told.items():
        if prompt and prompt != found[name]:
            raise ValueError(f"{path}: does not have {prompt!r} for {name!r}, but the JSON beside that clip says it")
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Names of files in the order of their numbers; a ValueError if only some begin with a number, or two with the
    same, because then one may be missing."""
    found = {name: re.match(r"\d+", Path(name).name) for name in names}
    numbers = {name: int(match[0]) for name, match in found.items() if match}
    if not numbers:
        return sorted(found, key=by_numbers)
    counts = Counter(numbers.values())
    if odd := [name for name in found if name not in numbers or counts[numbers[name]] > 1]:
        raise ValueError(
            f"{odd[0]}: numbers do not tell whose prompt this is, because only some files begin with one, or two with "
            f'the same; say it in NAME.json beside each: {{"prompt": "..."}}'
        )
    return sorted(numbers, key=numbers.__getitem__)


def told_prompt(audio: Path) -> str | None:
    """The prompt in the JSON file that `generate` writes beside a clip; any other file says nothing."""
    try:
        facts = load_row(read_whole(audio.with_suffix(".json")))
    except (OSError, ValueError):
        return None
    return facts["prompt"].strip() or None if isinstance(facts.get("prompt"), str) else None


def _check_count(path: Path, prompts: int, clips: Sequence[Clip]) -> None:
    if prompts != len(clips):
        raise ValueError(
            f"{path}: {prompts} prompts for {len(clips)} sound files; give one for each, in the order of their numbers"
        )


def _by_name(path: Path, rows: Sequence[dict[str, Any]], clips: Sequence[Clip]) -> dict[str, str]:
    captions: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        file, caption = row.get("file"), row.get("caption")
        if not all(isinstance(value, str) and value.strip() for value in (file, caption)):
            raise ValueError(f"{path}, row {number}: the texts 'file' and 'caption' are needed, not {str(row)[:200]}")
        if file in captions:
            raise ValueError(f"{path}, row {number}: {file!r} is named twice; give every file one prompt")
        captions[file] = caption.strip()
    _check_count(path, len(captions), clips)
    found = {clip.id: captions.pop(clip.id, None) or captions.pop(clip.audio.name, None) for clip in clips}
    if captions:  # There are as many prompts as files, so one that is left over is missing elsewhere.
        missing = next(name for name, caption in found.items() if caption is None)
        raise ValueError(f"{path}: no prompt for {missing!r}, but one for {next(iter(captions))!r}, which is not there")
    return found


def _named_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of prompts")
    with located(path):
        if path.suffix.lower() == ".jsonl":
            return [load_row(line.encode()) for line in read_lines(path)]
        return TABLES[".csv"](read_text(path))
