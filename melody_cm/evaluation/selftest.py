"""Which measure notices which damage: real music against other real music, whole and damaged."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from torch import Tensor

from melody_cm.data import Clip
from melody_cm.data.audio_files import SILENT_PEAK
from melody_cm.evaluation import degradations
from melody_cm.evaluation.corpora import read_ahead
from melody_cm.evaluation.judge import Judge, clip_vectors, embeds_text, memorization
from melody_cm.evaluation.resampling import embed
from melody_cm.evaluation.results import LARGER_IS_BETTER, SCHEMA_VERSION, interval
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.interfaces import AudioEmbedding
from melody_cm.randomness import keyed_generator

MAX_CLIPS = 200
BASELINE, COPY, SHUFFLED = "other music, undamaged", "copy of the reference", "shuffled captions"
DAMAGES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "silence": degradations.silence,
    "white noise": degradations.white_noise,
    "low-pass 1 kHz": degradations.low_pass,
    "pitch +4 semitones": degradations.pitch_shift,
    "half volume": degradations.half_volume,
    "MP3, lowest quality": degradations.mp3,
}


def selftest(clips: Sequence[Clip], embeddings: Sequence[AudioEmbedding], progress: Progress) -> dict[str, Any]:
    """Judge one half of the clips by the other, undamaged and with each damage.

    A damage is noticed by a measure if its plain value differs from that of the undamaged half by more than both 95 %
    half-intervals together (as the root of their summed squares); plain, because at equal n the bias is alike. Silence
    is embedded like any sound here; `evaluate` would leave it out and count it, which `left_out` says.

    Args:
        clips: real music of at least two pieces; at most 200 clips are used, evenly chosen.

    Returns:
        schema_version, metadata, and `rows` by embedding: damage, metrics, verdicts, left_out.

    Raises:
        ValueError: fewer than two pieces, or no readable clip in a half.
    """
    chosen = [clips[index * len(clips) // MAX_CLIPS] for index in range(MAX_CLIPS)] if len(clips) > MAX_CLIPS else clips
    halves = disjoint_halves(chosen)
    rows = {embedding.name: _Battery(embedding, halves, progress).rows() for embedding in embeddings}
    return {
        "schema_version": SCHEMA_VERSION,
        "metadata": {
            "embeddings": {embedding.name: asdict(embedding.identity) for embedding in embeddings},
            "clips": {"generated": len(halves[1]), "reference": len(halves[0])},
        },
        "rows": rows,
    }


def disjoint_halves(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Every second piece, and the others; no piece is in both.

    Raises:
        ValueError: fewer than two pieces.
    """
    pieces = list(dict.fromkeys(clip.piece for clip in clips))
    if len(pieces) < 2:
        raise ValueError(f"{len(clips)} clips of {len(pieces)} piece(s); a selftest needs at least 2 pieces")
    even = set(pieces[::2])
    return [clip for clip in clips if clip.piece in even], [clip for clip in clips if clip.piece not in even]


class _Battery:
    """One embedding's rows."""

    def __init__(self, embedding: AudioEmbedding, halves: tuple[list[Clip], list[Clip]], progress: Progress) -> None:
        self.embedding, self.progress = embedding, progress
        self.real, self.other = (self._read(half) for half in halves)
        total = len(self.real) + len(self.other) * (1 + len(DAMAGES))
        self.task = progress.add_task(f"{embedding.name}, selftest", total=total)
        self.frames = [(clip, self._embed(waveform)) for clip, waveform in self.real]
        self.statistics = EmbeddingStatistics.empty(embedding.width)
        for clip, frames in self.frames:
            self.statistics.add(frames, [clip.piece])
        captions = {clip.id: clip.captions[0] for clip, _ in self.real + self.other if clip.captions}
        known = len(captions) == len(self.real) + len(self.other)
        self.captions = captions if known and embeds_text(embedding) else {}

    def rows(self) -> list[dict[str, Any]]:
        """All rows, the undamaged one first."""
        undamaged = [(clip, self._embed(waveform)) for clip, waveform in self.other]
        baseline = self._scores(undamaged, self.captions)
        rows = [_row(BASELINE, baseline, baseline, 0)]
        for name, damage in DAMAGES.items():
            damaged = [damage(waveform, self.embedding.sample_rate, i) for i, (_, waveform) in enumerate(self.other)]
            frames = [(clip, self._embed(x)) for (clip, _), x in zip(self.other, damaged, strict=True)]
            silent = sum(bool(waveform.abs().max() < SILENT_PEAK) for waveform in damaged)
            rows.append(_row(name, self._scores(frames, self.captions), baseline, silent))
        rows.append(_row(COPY, self._scores(self.frames, {}), baseline, 0))
        if self.captions:
            shuffled = {
                key: score
                for key, score in self._scores(undamaged, _shuffled(self.other, self.captions)).items()
                if key.startswith(LARGER_IS_BETTER)
            }
            rows.append(_row(SHUFFLED, shuffled, baseline, 0))
        return rows

    def _scores(self, frames: list[tuple[Clip, Tensor]], captions: Mapping[str, str]) -> dict[str, Score]:
        judge = Judge(self.embedding, captions)
        judge.reference(self.statistics)
        for clip, one in frames:
            judge.add(one, [clip.id], [clip.piece])
        return judge.scores() | (self._memorized(frames) if self.embedding.identity.trained else {})

    def _memorized(self, frames: list[tuple[Clip, Tensor]]) -> dict[str, Score]:
        check = memorization(self.embedding, (one for _, one in frames))
        for clip, one in self.frames:
            check.update(clip_vectors(one), [clip.id])
        return {f"{key}_{self.embedding.name}": score for key, score in check.compute().items()}

    def _read(self, clips: list[Clip]) -> list[tuple[Clip, Tensor]]:
        read = list(read_ahead(clips, self.embedding.sample_rate))
        usable = [(clip, waveform) for clip, waveform in read if isinstance(waveform, Tensor)]
        if not usable:
            raise ValueError(f"none of the {len(clips)} clips of one half is usable; the first: {read[0][1]}")
        return usable

    def _embed(self, waveform: Float[Tensor, " t"]) -> Float[Tensor, "1 l d"]:
        self.progress.advance(self.task)
        return embed(self.embedding, waveform[None, None], self.embedding.sample_rate).cpu()


def _shuffled(clips: list[tuple[Clip, Tensor]], captions: Mapping[str, str]) -> dict[str, str]:
    """Every clip with the caption of another, the next one on a round trip in random order."""
    order = torch.randperm(len(clips), generator=keyed_generator(0, "selftest captions", 0, 0)).tolist()
    ids = [clips[index][0].id for index in order]
    return {one: captions[other] for one, other in zip(ids, ids[1:] + ids[:1], strict=True)}


def _row(damage: str, found: Mapping[str, Score], baseline: Mapping[str, Score], left_out: int) -> dict[str, Any]:
    judged = {} if found is baseline else {key: noticed(key, baseline[key], score) for key, score in found.items()}
    return {
        "damage": damage,
        "metrics": {key: score.as_dict() for key, score in found.items()},
        "verdicts": judged,
        "left_out": left_out,
    }


def noticed(key: str, before: Score, after: Score) -> str:
    """ "noticed", "noticed, as better" or "not noticed"; "too few clips" where an interval is missing."""
    widths = [score.high - score.low for score in (before, after) if score.high is not None and score.low is not None]
    if len(widths) < 2 or before.value is None or after.value is None:
        return "too few clips"
    difference = after.value - before.value
    if abs(difference) <= math.hypot(*widths) / 2:
        return "not noticed"
    return "noticed, as better" if (difference > 0) == key.startswith(LARGER_IS_BETTER) else "noticed"


def selftest_table(results: Mapping[str, Any], embedding: str) -> Group:
    """One embedding's rows: each value with its interval and verdict."""
    rows = results["rows"][embedding]
    keys, count = list(rows[0]["metrics"]), results["metadata"]["clips"]["generated"]
    table = Table(title=embedding, show_lines=True)
    for title in ("damage", *(key.removesuffix(f"_{embedding}") for key in keys), "evaluate leaves out"):
        table.add_column(title, overflow="fold")
    for row in rows:
        cells = [_cell(row["metrics"].get(key), row["verdicts"].get(key, "")) for key in keys]
        table.add_row(row["damage"], *cells, f"{row['left_out']} of {count}" if row["left_out"] else "-")
    others = results["metadata"]["clips"]["reference"]
    note = (
        f"{count} clips against {others} others: plain value, 95 % interval (of the corrected value). Noticed: farther "
        "from the first row, which compares two disjoint halves of the same music, than the uncertainty of both."
    )
    return Group(table, Text(note))


def _cell(data: Mapping[str, Any] | None, word: str) -> str:
    if data is None:
        return "-"
    score = Score.from_dict(dict(data))
    value = "-" if score.value is None else f"{score.value:.4g}{' †' if score.too_few else ''}"
    return "\n".join(line for line in (value, interval(score).replace("[", r"\["), word) if line)
