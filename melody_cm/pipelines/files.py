"""From prompts and sound files to WAV files that grow while the music is made, each with a JSON that says how."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.audio import FORMATS, GeneratedAudio
from melody_cm.data import AudioInfo, AudioProblem, audio_info, read_audio, scan_audio, stream_audio
from melody_cm.data.audio_files import AUDIO_SUFFIXES
from melody_cm.data.folders import UNREAD_SUFFIXES
from melody_cm.data.jobs import require_writable
from melody_cm.pipelines.editing import EditingPipeline
from melody_cm.pipelines.growing_wav import GrowingWav, check_size
from melody_cm.pipelines.pretrained import PretrainedPipeline, put
from melody_cm.pipelines.request import MAX_PROMPT_SECONDS, AudioPrompt, Request, clip_keys
from melody_cm.placement import Placement
from melody_cm.storage import hash_file, read_json, write_json
from melody_cm.storage.versions import versions

Blocks = Iterator[GeneratedAudio]
# What of a clip's JSON does not belong to the request.
CIRCUMSTANCES = ("pipeline", "device", "tf32", "versions")
LOST_SECONDS = 0.1  # What a coding may add at the ends.
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # Sound files of more than 16 bits a sample.


def generate_files(
    source: PretrainedPipeline | Path | str,
    request: Request,
    out: Path,
    batch_size: int = 8,
    audio_prompts: Sequence[Path] = (),
    continue_from: Path | None = None,
    inpaint: tuple[Path, float, float] | None = None,
    overwrite: bool = False,
    placement: Placement | None = None,
    on_block: Callable[[float], Any] = lambda seconds: None,
) -> Iterator[Path]:
    """One sound file and one JSON for each clip of a request; all of it is checked before anything is made or written.

    Clips that the same request made before are not made again, so a request that was interrupted goes on.

    Args:
        source: a pipeline, or where one was saved (see `PretrainedPipeline.from_pretrained`).
        out: the folder of the WAV files, made if it is not there; or a file for one clip: .wav, .flac, .ogg or .mp3.
        batch_size: clips that are made at a time.
        audio_prompts: sound files in the place of the request's prompts.
        continue_from: a sound file whose music goes on; `request.seconds` counts both.
        inpaint: a sound file, and from where to where (seconds) it is made anew.
        overwrite: replace clips of the same name that were made from something else.
        on_block: called after each block with the seconds of music that were made, those of all clips together.
        placement: where the pipeline works; None for `Placement.choose()`, or where it is if one is given.

    Returns:
        The sound files, one after another, each when it is finished. What was written stays, should an error come.

    Raises:
        ValueError, OSError: what cannot be made or written, or a clip of the same name made from something else.
    """
    single = (suffix := Path(out).suffix.lower()) in FORMATS
    if Path(out).name.lower() in FORMATS:
        raise ValueError(f"{out}: a file needs a name before {Path(out).name}")
    if not single and suffix in (*AUDIO_SUFFIXES, *UNREAD_SUFFIXES):
        raise ValueError(f"{out}: {suffix} is not written; give {', '.join(FORMATS)}, or a folder")
    folder = require_writable(Path(out).absolute().parent if single else Path(out))
    pipeline = source if isinstance(source, PretrainedPipeline) else PretrainedPipeline.from_pretrained(source)
    if placement is None and pipeline is not source:
        placement = Placement.choose()
    if placement is not None:
        put(pipeline, placement)
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
    elif given is not None:
        facts["continued_from"] = str(given)
    clips = [
        ClipFile(Path(out) if single else folder / f"{stem}.wav", made | facts)
        for stem, made in _named(list(audio_prompts or request.prompts) or [None], given, request.seed)
    ]
    if single and len(clips) > 1:
        raise ValueError(f"{len(clips)} clips do not fit into {out}; give a folder")
    if not any([clip.is_to_be_made(overwrite) for clip in clips]):
        return (clip.path for clip in clips)
    if given is None:
        batches = pipeline.streams(request, batch_size)
    else:
        batches = iter([inpainted(pipeline, *inpaint, request) if inpaint else continued(pipeline, given, request)])
    parts = [clips[first : first + batch_size] for first in range(0, len(clips), batch_size)]
    sample_bytes = 3 if given and soundfile.info(given).subtype in FINE else 2
    return _write(zip(parts, batches, strict=True), overwrite, sample_bytes, on_block)


def read_prompt(path: Path, sample_rate: int) -> AudioPrompt:
    """The music of a file as a prompt; an AudioProblem if it cannot be read, is silent or too long to be held in
    memory."""
    seconds = audio_info(path).seconds
    if seconds > MAX_PROMPT_SECONDS:
        raise AudioProblem(
            f"{path}: {seconds:.1f} s of audio prompt are too long to be held in memory; give at most "
            f"{MAX_PROMPT_SECONDS} s of it"
        )
    return AudioPrompt(read_audio(path, 0.0, None, sample_rate)[None, None], sample_rate)


def continued(pipeline: PretrainedPipeline, path: Path, request: Request) -> Blocks:
    """The music of a file and what follows it, at constant memory, one clip a prompt; checked before it begins.

    A ValueError or AudioProblem if the system cannot continue music, or if the file cannot be read, is silent or too
    short, or has not less than `request.seconds` of music.
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
    """The music of a file with new music in a hole, at constant memory, one clip a prompt. The hole is filled first,
    then the file is read from its beginning.

    A ValueError or AudioProblem if the system cannot inpaint, the file cannot be read or the hole not be filled.
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


def _open_given(pipeline: PretrainedPipeline, path: Path) -> tuple[EditingPipeline, AudioInfo]:
    """The pipeline, if it can go on from music, and what the file's header says, if all of it is sound."""
    if not isinstance(pipeline, EditingPipeline):
        raise ValueError(f"{type(pipeline).__name__} cannot continue or inpaint music; MeLoDy can")
    return pipeline, scan_audio(path, 0.0, None)


def _rows(music: Float[Tensor, " t"], count: int) -> Float[Tensor, "b 1 t"]:
    return music.expand(count, 1, -1)


def _facts(pipeline: PretrainedPipeline, source: Any, request: Request) -> dict[str, Any]:
    """What all clips have in common, as plain data."""
    return {
        "system": type(pipeline).__name__,
        "pipeline": None if source is pipeline else str(source),
        "seed": request.seed if isinstance(request.seed, int) else list(request.seed),
        **pipeline.sampling(request),
        "seconds_asked": request.seconds,
        "sample_rate": pipeline.sample_rate,
        **pipeline.placement.facts(),
        # Nobody has changed what was read here, so its weights are not hashed again.
        "weights": pipeline.weight_hashes() if source is pipeline else pipeline.file_hashes,
        "versions": versions(),
        **request.arrangement(),
    }


def _named(prompts: Sequence[Any], given: Path | None, seed: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each clip a name (its number, the first words of its prompt or of the file that it is made from, the seed),
    and what is its own in its JSON."""
    width, keys = max(3, len(str(len(prompts) - 1))), clip_keys(seed, len(prompts))
    for index, prompt in enumerate(prompts):
        heard = prompt if isinstance(prompt, Path) else given
        text = prompt if isinstance(prompt, str) else heard.stem if heard else ""
        words = "_".join(re.findall(r"\w+", unicodedata.normalize("NFC", text.lower())))[:40]
        words = words.encode()[:80].decode(errors="ignore").strip("_")
        made = {"prompt": prompt if isinstance(prompt, str) else None, "clip_index": index}
        made |= {"audio_prompt": str(prompt)} if isinstance(prompt, Path) else {}
        made |= {"sound_hash": hash_file(heard)} if heard and heard.is_file() else {}
        yield "_".join(part for part in (f"{index:0{width}d}", words, f"seed{keys[index][0]}") if part), made


@dataclass
class ClipFile:
    """A clip of a request: its WAV file, and what its JSON says of how it is made."""

    path: Path
    facts: dict[str, Any]

    def is_to_be_made(self, overwrite: bool) -> bool:
        """False if the same request made it before; a ValueError if something else is there and not to be replaced by
        `overwrite`."""
        beside = self.path.with_suffix(".json")
        if self.path.is_dir() or beside.is_dir():
            raise ValueError(f"{self.path} or its .json is a folder; give another --out")
        if not (self.path.exists() or beside.exists()):
            return True
        try:
            there = read_json(beside)
        except (ValueError, OSError):
            there = None
        asked = json.loads(json.dumps({name: self.facts[name] for name in self.facts if name not in CIRCUMSTANCES}))
        unlike = [name for name in asked if not isinstance(there, dict) or there.get(name) != asked[name]]
        if not unlike:
            return not self._lasts(there.get("seconds"))
        if overwrite:
            return True
        why = f"made with another {unlike[0]}" if isinstance(there, dict) else "and nothing says how it was made"
        raise ValueError(f"{self.path} is there, {why}; give another --out, or replace it by --overwrite")

    def _lasts(self, seconds: Any) -> bool:
        """Whether the file is as long as it was when it was made, which one that was cut since is not."""
        try:
            return abs(soundfile.info(str(self.path)).duration - seconds) < LOST_SECONDS
        except (soundfile.SoundFileError, TypeError):
            return False


def _write(
    parts: Iterator[tuple[list[ClipFile], Blocks]], overwrite: bool, sample_bytes: int, on_block: Callable[[float], Any]
) -> Iterator[Path]:
    """The files of one batch after another; what is finished is on disk, also when the rest is never made."""
    for clips, blocks in parts:
        if any([clip.is_to_be_made(overwrite) for clip in clips]):
            _write_batch(clips, blocks, sample_bytes, on_block)
        yield from (clip.path for clip in clips)


def _write_batch(
    clips: Sequence[ClipFile], blocks: Blocks, sample_bytes: int, on_block: Callable[[float], Any]
) -> None:
    """A WAV is renamed after its JSON is there, so no finished one is without."""
    timings: Counter[str] = Counter()
    clips[0].path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        wavs = [GrowingWav(clip.path, clip.facts["sample_rate"], sample_bytes) for clip in clips]
        files = [stack.enter_context(wav) for wav in wavs]
        for block in blocks:
            for file, waveform in zip(files, block.waveform, strict=True):
                file.write(waveform)
            timings.update(block.timings)
            on_block(len(block) * block.seconds)
        for file, clip in zip(files, clips, strict=True):
            length = {"batch_size": len(clips), "seconds": file.samples / file.sample_rate, "timings": dict(timings)}
            clip.path.unlink(missing_ok=True)
            write_json(clip.path.with_suffix(".json"), clip.facts | length)
