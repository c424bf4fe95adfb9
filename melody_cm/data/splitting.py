"""Splits that no piece crosses, drawn from the name of the piece alone."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody_cm.data.audio_files import AudioProblem, audio_info
from melody_cm.data.clips import SPLITS, Split, load_row
from melody_cm.data.manifest import ManifestCorpus, manifest_lines, write_manifest
from melody_cm.storage import located

RATIOS = (80.0, 10.0, 10.0)


@dataclass
class SplitReport:
    """What each split holds."""

    clips: Counter[str] = field(default_factory=Counter)  # By split.
    seconds: Counter[str] = field(default_factory=Counter)
    pieces: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})  # Names, by split.
    unknown: int = 0  # Clips whose length neither row nor sound file tells; they are not in `seconds`.
    empty: list[Split] = field(default_factory=list)  # Splits that should have a share and got no piece.


def split_manifest(
    path: str, out: Path, ratios: Sequence[float] = RATIOS, seed: int = 0, force: bool = False
) -> SplitReport:
    """Write a manifest whose rows differ from those at `path` in nothing but `split`.

    Args:
        path: the manifest, or a folder that holds a manifest.jsonl.
        out: the new manifest, in the same folder, as rows name their sound files relative to it.
        ratios: shares of train, valid and test; only their proportion counts.
        seed: another seed, another split.
        force: replace `out` if it holds something else.

    Raises:
        FileNotFoundError: no such manifest.
        ValueError: ratios that are no shares; a row that is no JSON object or has nothing to tell its piece by; `out`
            is elsewhere, or is there.
    """
    source, report, shares = ManifestCorpus(path).path, SplitReport(), shares_of(ratios)
    if out.resolve().parent != source.resolve().parent:
        raise ValueError(f"{out}: not in the folder of {source}, which its rows' paths start from; put it there")

    def rows() -> Iterator[dict[str, Any]]:
        for where, line in manifest_lines(source):
            with located(where):
                row = load_row(line)
                piece = piece_of(row)
            split, seconds = drawn_split(piece, shares, seed), _seconds(row, source.parent)
            report.clips[split] += 1
            report.pieces[split].add(piece)
            report.seconds[split] += seconds or 0.0
            report.unknown += seconds is None
            yield row | {"split": split}

    write_manifest(out, rows(), force)
    report.empty = [split for split in shares if not report.clips[split]]
    return report


def shares_of(ratios: Sequence[float]) -> dict[Split, float]:
    """The share of each split that has one; a ValueError if these are not three numbers from 0, or all are zeros."""
    total = math.fsum(ratios)
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or not 0 < total < math.inf:
        given = ",".join(f"{ratio:g}" for ratio in ratios)
        raise ValueError(f"ratios are {given}; give a share from 0 to each of {', '.join(SPLITS)}, as in 80,10,10")
    return {split: ratio / total for split, ratio in zip(SPLITS, ratios, strict=True) if ratio}


def drawn_split(piece: str, shares: dict[Split, float], seed: int) -> Split:
    """The split of a piece: a function of its name, the seed and the shares, so that adding rows moves none."""
    digest = hashlib.blake2b(f"{seed}/{piece}".encode(), digest_size=8).digest()
    place = (int.from_bytes(digest, "little") >> 11) / 2**53
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return split


def piece_of(row: dict[str, Any]) -> str:
    """What must stay in one split: the piece a row names, else its MIDI file, sound file, or itself."""
    if row.get("piece"):
        return str(row["piece"])
    for name in ("midi", "audio"):
        if row.get(name):
            return os.path.normpath(str(row[name]))
    if "id" not in row:
        raise ValueError("field 'id' is missing")
    return str(row["id"])


def _seconds(row: dict[str, Any], folder: Path) -> float | None:
    """The length of a row's clip; None if neither the row nor its sound file says it."""
    if isinstance(row.get("duration"), int | float):
        return float(row["duration"])
    try:
        start = 0.0 if row.get("midi") else float(row.get("start") or 0.0)
        return max(audio_info(folder / str(row["audio"])).seconds - start, 0.0)
    except (AudioProblem, KeyError, TypeError, ValueError):
        return None
