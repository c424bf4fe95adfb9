"""Captioned procedural instrumental music, rendered once from a seed, read like any other manifest."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from melody_cm.data.audio_files import write_audio
from melody_cm.data.clips import Clip, Split
from melody_cm.data.composition import captions, compose, describe, draw_piece
from melody_cm.data.manifest import MANIFEST_NAME, Corpus, ManifestCorpus
from melody_cm.data.synthesis import render
from melody_cm.storage import folder_atomically, hash_data

# Raise it when the same arguments give other sound or other captions: it is a part of the cache's key.
CONTENT_VERSION = 1
MIN_CLIPS = 3
MIN_CLIP_SECONDS = 0.5


def cache_folder() -> Path:
    """Where rendered music is kept: $MELODY_CM_CACHE, or ~/.cache/melody_cm."""
    return Path(os.environ.get("MELODY_CM_CACHE") or "~/.cache/melody_cm").expanduser()


class SyntheticCorpus(Corpus):
    """Procedural music in nine styles, two clips a piece, split 80/10/10 by piece; every caption is true of its sound.

    Rendered at the first `clips()` into a folder of its own below $MELODY_CM_CACHE (~/.cache/melody_cm by default).

    Args:
        num_clips: how many clips, at least 3 (a piece for each split).
        seconds: length of a clip, at least 0.5.
        seed: another seed is another corpus.
        sample_rate: Hz.
    """

    def __init__(self, num_clips: int, seconds: float, seed: int = 0, sample_rate: int = 24000) -> None:
        _check_size(num_clips, seconds)
        self.num_clips, self.seconds, self.seed, self.sample_rate = num_clips, seconds, seed, sample_rate

    @property
    def folder(self) -> Path:
        """Where the rendered corpus is kept."""
        cache = cache_folder()
        name = f"{self.num_clips}x{float(self.seconds)}s_{self.sample_rate}hz_seed{self.seed}_v{CONTENT_VERSION}"
        return cache / "synthetic" / name

    def clips(self) -> list[Clip]:
        if not self._rendered():
            with _locked(self.folder):
                if not self._rendered():
                    write_corpus(self.folder, self.num_clips, self.seed, self.seconds, self.sample_rate)
        return ManifestCorpus(str(self.folder)).clips()

    def _rendered(self) -> bool:
        return (self.folder / MANIFEST_NAME).is_file()

    def fingerprint(self) -> str:
        return hash_data([CONTENT_VERSION, self.num_clips, float(self.seconds), self.seed, self.sample_rate])


def write_corpus(folder: Path, num_clips: int, seed: int = 0, seconds: float = 10.0, sample_rate: int = 24000) -> None:
    """Render a corpus as FLAC files and a manifest; `folder` appears, or is replaced, when all of it is there."""
    _check_size(num_clips, seconds)
    with folder_atomically(folder) as aside:
        (aside / "audio").mkdir()
        title, console = f"rendering {num_clips} synthetic clips", Console(stderr=True)
        indices = track(range(num_clips), title, console=console, disable=not console.is_terminal)
        rows = [_write_clip(aside, index, num_clips, seed, seconds, sample_rate) for index in indices]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (aside / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _check_size(num_clips: int, seconds: float) -> None:
    if num_clips < MIN_CLIPS:
        raise ValueError(f"num_clips is {num_clips}; at least {MIN_CLIPS} are needed, one for each split")
    if seconds < MIN_CLIP_SECONDS:
        raise ValueError(f"seconds is {seconds}; music needs at least {MIN_CLIP_SECONDS}")


def _write_clip(
    folder: Path, index: int, num_clips: int, seed: int, seconds: float, sample_rate: int
) -> dict[str, Any]:
    num_pieces = max(MIN_CLIPS, -(-num_clips // 2))
    section, number = divmod(index, num_pieces)
    piece = draw_piece(seed, number)
    audio = f"audio/{index:06d}.flac"
    waveform = render(compose(piece, seconds, seed, number, section), seconds, sample_rate)
    write_audio(folder / audio, torch.from_numpy(waveform), sample_rate)
    caption, *alternatives = captions(piece, seed, number, section)
    return {
        "id": f"synthetic_{seed}_{number:06d}_{section}",
        "audio": audio,
        "start": 0.0,
        "duration": seconds,
        "sample_rate": sample_rate,
        "split": _piece_split(number, num_pieces),
        "caption": caption,
        "alt_captions": alternatives,
        "piece": f"synthetic_{seed}_{number:06d}",
        "license": "CC0-1.0",
    } | describe(piece)


def _piece_split(number: int, num_pieces: int) -> Split:
    tenth = max(1, round(num_pieces / 10))
    return "test" if number < tenth else "valid" if number < 2 * tenth else "train"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from rendering the same corpus at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
