"""Captioned procedural instrumental music, rendered once from a seed, read like any other manifest."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.data.audio_files import write_audio
from melody_cm.data.clips import Split
from melody_cm.data.composition import draw_piece, perform, piece_captions, piece_fields
from melody_cm.data.jobs import cache_folder, progress
from melody_cm.data.manifest import MANIFEST_NAME, Corpus, Entry, ManifestCorpus
from melody_cm.data.synthesis import synthesize
from melody_cm.storage import hash_data, locked, read_json, write_json, write_text

# Raise it when the same arguments give other sound or other captions: it is a part of the cache's key.
CONTENT_VERSION = 1
RECORD_NAME = "contents.json"
MIN_CLIPS = 3
MIN_CLIP_SECONDS = 0.5
SAMPLE_RATES = range(8000, 192001)


class SyntheticCorpus(Corpus):
    """Procedural music in nine styles, two clips a piece, split 80/10/10 by piece; every caption is true of its sound.

    Rendered when it is first read, into a folder of its own below $MELODY_CM_CACHE (~/.cache/melody_cm by default).

    Args:
        num_clips: how many clips, at least 3 (a piece for each split).
        seconds: length of a clip, at least 0.5.
        seed: another seed is another corpus.
        sample_rate: Hz, 8000 to 192000.
    """

    def __init__(self, num_clips: int, seconds: float, seed: int = 0, sample_rate: int = 24000) -> None:
        if num_clips < MIN_CLIPS:
            raise ValueError(f"num_clips is {num_clips}; at least {MIN_CLIPS} are needed, one for each split")
        if not MIN_CLIP_SECONDS <= seconds < math.inf:
            raise ValueError(f"seconds is {seconds}; music needs at least {MIN_CLIP_SECONDS}")
        if sample_rate not in SAMPLE_RATES:
            limits = f"{SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz"
            raise ValueError(f"sample_rate is {sample_rate}; {limits} can be rendered")
        self.num_clips, self.seconds, self.seed, self.sample_rate = num_clips, seconds, seed, sample_rate
        self.num_pieces = max(MIN_CLIPS, -(-num_clips // 2))

    @property
    def folder(self) -> Path:
        """Where the rendered corpus is kept."""
        name = f"{self.num_clips}x{float(self.seconds)}s_{self.sample_rate}hz_seed{self.seed}_v{CONTENT_VERSION}"
        return cache_folder() / "synthetic" / name

    def entries(self) -> Iterator[Entry]:
        if not (self.folder / MANIFEST_NAME).is_file():
            try:
                self.write(self.folder)
            except PermissionError as error:
                hint = "set MELODY_CM_CACHE to a folder that can be written"
                raise PermissionError(f"{self.folder}: {error.strerror}; {hint}") from error
        yield from ManifestCorpus(str(self.folder)).entries()

    def fingerprint(self) -> str:
        """A hash of the arguments, as long as the files hold what they held when this was first asked."""
        made = [CONTENT_VERSION, self.num_clips, float(self.seconds), self.seed, self.sample_rate]
        if not (self.folder / MANIFEST_NAME).is_file():
            return hash_data(made)
        contents = self._hash_contents([str(clip.audio) for clip in self.clips()])
        record = self.folder / RECORD_NAME
        if not record.is_file():
            with suppress(OSError):
                write_json(record, contents)
        return hash_data(made if not record.is_file() or read_json(record) == contents else [made, contents])

    def write(self, folder: Path) -> None:
        """Render all clips into a folder; see `write_corpus`."""
        folder, rows = folder.resolve(), [self._row(index) for index in range(self.num_clips)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        with locked(folder.parent / f".{folder.name}.lock"):
            if _is_there(folder, text, rows):
                return
            aside = folder.parent / f".{folder.name}.{hash_data([CONTENT_VERSION, text])}.part"
            begun = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{16}}\.part")
            for other in folder.parent.iterdir():  # One that was begun with other arguments is never gone on with.
                if begun.fullmatch(other.name) and other != aside:
                    shutil.rmtree(other, ignore_errors=True)
            (aside / "audio").mkdir(parents=True, exist_ok=True)
            for index, row in enumerate(progress(rows, f"rendering {self.num_clips} synthetic clips")):
                if not (aside / row["audio"]).is_file():
                    write_audio(aside / row["audio"], self._waveform(index), self.sample_rate)
            write_text(aside / MANIFEST_NAME, text)
            aside.replace(folder)

    def _waveform(self, index: int) -> Float[Tensor, " t"]:
        section, number = divmod(index, self.num_pieces)
        performance = perform(draw_piece(self.seed, number), self.seconds, self.seed, number, section)
        return torch.from_numpy(synthesize(performance, self.seconds, self.sample_rate))

    def _row(self, index: int) -> dict[str, Any]:
        section, number = divmod(index, self.num_pieces)
        piece = draw_piece(self.seed, number)
        caption, *alternatives = piece_captions(piece, self.seed, number, section)
        return {
            "id": f"synthetic_{self.seed}_{number:06d}_{section}",
            "audio": f"audio/{index:06d}.flac",
            "start": 0.0,
            "duration": self.seconds,
            "sample_rate": self.sample_rate,
            "split": self._split(number),
            "caption": caption,
            "alt_captions": alternatives,
            "piece": f"synthetic_{self.seed}_{number:06d}",
            "license": "CC0-1.0",
        } | piece_fields(piece)

    def _split(self, number: int) -> Split:
        tenth = max(1, round(self.num_pieces / 10))
        return "test" if number < tenth else "valid" if number < 2 * tenth else "train"


def write_corpus(folder: Path, num_clips: int, seed: int = 0, seconds: float = 10.0, sample_rate: int = 24000) -> None:
    """Render procedural music as FLAC files and a manifest; `folder` appears when all of it is there.

    Until then the clips gather in a hidden folder beside it, where a rendering that was stopped goes on. Equal
    arguments give equal bytes; where they lie in `folder` already, nothing is done. A ValueError if it holds something
    else, or a size is too small.
    """
    SyntheticCorpus(num_clips, seconds, seed, sample_rate).write(folder)


def _is_there(folder: Path, manifest: str, rows: list[dict[str, Any]]) -> bool:
    """Whether the folder holds exactly this corpus; a ValueError if it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    found = folder / MANIFEST_NAME
    same = found.is_file() and found.read_bytes() == manifest.encode()
    if not same or not all((folder / row["audio"]).is_file() for row in rows):
        raise ValueError(f"{folder}: holds something else; give a new folder, or remove it")
    return True
