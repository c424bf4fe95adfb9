"""Which measure notices which damage: real music against other real music, whole and damaged."""

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from scipy import signal
from torch import Tensor

from melody_cm.data import Clip, SyntheticCorpus
from melody_cm.evaluation.clips import embed, find_clips, read_ahead
from melody_cm.evaluation.folders import check_place
from melody_cm.evaluation.judge import Judge, clip_vectors, embeds_text, open_embeddings
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Difference, Results, Row, arrow
from melody_cm.evaluation.score import SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.tables import Sheet
from melody_cm.interfaces import AudioEmbedding
from melody_cm.placement import Placement
from melody_cm.randomness import keyed_generator
from melody_cm.signal.levels import SILENT_PEAK

# At least so many clips are used, and so many for every dimension of an embedding: each half needs two (`too_few`), and
# pieces of unlike length leave the halves unequal.
MIN_CLIPS, CLIPS_PER_DIMENSION = 200, 5
PROCEDURAL_SECONDS = 5.0
BASELINE, COPY, SHUFFLED = "other music, undamaged", "copy of the reference", "shuffled captions"
Heard = list[tuple[Clip, Tensor]]  # Clips with their waveforms (t,), or with their embeddings (1, l, d).
NOTICED = {"worse": "noticed", "better": "noticed, as better", "not distinguishable": "not noticed"}


def white_noise(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Noise as loud as the music was."""
    noise = torch.randn(waveform.shape, generator=keyed_generator(0, "selftest noise", 0, item))
    return (noise * waveform.square().mean().sqrt()).clamp(-1, 1)


def low_pass(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Without what lies above 1 kHz (Butterworth of order 4, forward and backward)."""
    sections = signal.butter(4, 1000.0, fs=sample_rate, output="sos")
    return torch.from_numpy(signal.sosfiltfilt(sections, waveform.double().numpy()).copy()).float()


def pitch_shift(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Four semitones higher, at the same tempo."""
    shifted = librosa.effects.pitch_shift(waveform.numpy(), sr=sample_rate, n_steps=4.0)
    return torch.from_numpy(np.ascontiguousarray(shifted, dtype=np.float32))


def mp3(waveform: Float[Tensor, " t"], sample_rate: int, item: int) -> Float[Tensor, " t"]:
    """Through an MP3 file of the lowest quality that libsndfile offers."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, format="MP3", compression_level=0.99)
    file.seek(0)
    return torch.from_numpy(soundfile.read(file, dtype="float32")[0])[: len(waveform)]


# Each takes a waveform (t,), its sample rate, and a number of its own for what it draws.
DAMAGES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "silence": lambda waveform, sample_rate, item: torch.zeros_like(waveform),
    "white noise": white_noise,
    "low-pass 1 kHz": low_pass,
    "pitch +4 semitones": pitch_shift,
    "half volume": lambda waveform, sample_rate, item: waveform / 2,
    "MP3, lowest quality": mp3,
}


def selftest(
    reference: str | Path | None = None,
    embeddings: Sequence[str | AudioEmbedding] = ("logmel",),
    *,
    split: str | None = None,
    out: str | Path | None = None,
    placement: Placement | None = None,
    show_progress: bool = False,
) -> Results:
    """Judge one half of real music by the other, undamaged and with each damage.

    Args:
        reference: folder of sound files, or a manifest; procedural music, as much as the embeddings need, if left out.
        embeddings, split, out, placement: as in `evaluate`.

    Returns:
        A row for each damage, the undamaged one first, and the difference of each to that one (see `plain_difference`).
        Silence is embedded like any sound here; `evaluate` would leave it out, which the fact `left_out` counts.

    Raises:
        FileNotFoundError: a file, folder or preset is missing.
        ValueError: fewer than two pieces, or no readable clip in a half.
    """
    check_place(out)
    judges, placement = open_embeddings(embeddings), placement or Placement.choose()
    placement.put(judges)
    if reference is None:
        needed = max(map(clips_needed, judges))
        clips = list(SyntheticCorpus(needed, PROCEDURAL_SECONDS, sample_rate=16000).clips())
    else:
        clips = find_clips(reference, split)
    with Progress(console=Console(stderr=True), disable=not show_progress) as progress:
        rows, counts = selftest_rows(clips, judges, progress)
    facts = provenance(reference=str(reference or "procedural"), split=split, clips=counts, placement=placement.facts())
    found = [plain_difference(row, rows[0], key) for row in rows[1:] for key in row.metrics]
    results = Results("selftest", facts, rows, [one for one in found if one is not None])
    if out is not None:
        results.write(Path(out))
    return results


def selftest_rows(
    clips: Sequence[Clip], embeddings: Sequence[AudioEmbedding], progress: Progress
) -> tuple[list[Row], dict[str, int]]:
    """The rows of `selftest`, and how many clips each half has at most; every embedding takes what it needs of them."""
    rows: dict[str, Row] = {}
    counts = dict.fromkeys(SIDES, 0)
    for embedding in embeddings:
        count = min(len(clips), clips_needed(embedding))
        halves = disjoint_halves([clips[index * len(clips) // count] for index in range(count)])  # Evenly spread.
        counts = {side: max(counts[side], len(half)) for side, half in zip(SIDES, halves[::-1], strict=True)}
        for label, scores, left_out in _Battery(embedding, halves, progress).measure():
            row = rows.setdefault(label, Row(label, {}, facts={"left_out": {}}))
            row.metrics |= scores
            row.facts["left_out"][embedding.name] = left_out
    return list(rows.values()), counts


def clips_needed(embedding: AudioEmbedding) -> int:
    """Of both halves together, so that no Frechet distance has too few."""
    return max(MIN_CLIPS, CLIPS_PER_DIMENSION * embedding.width)


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
    """One embedding's measures of all damages."""

    def __init__(self, embedding: AudioEmbedding, halves: tuple[list[Clip], list[Clip]], progress: Progress) -> None:
        self.embedding, self.progress = embedding, progress
        real, self.other = (self._read(half) for half in halves)
        total = len(real) + len(self.other) * (1 + len(DAMAGES))
        self.task = progress.add_task(f"{embedding.name}, selftest", total=total)
        self.real = self._embed(real)
        self.statistics = EmbeddingStatistics.empty(embedding.width)
        for clip, frames in self.real:
            self.statistics.add(frames, [clip.piece])
        self.captions = {clip.id: clip.captions[0] for clip, _ in real + self.other if clip.captions}
        if len(self.captions) < len(real) + len(self.other) or not embeds_text(embedding):
            self.captions = {}

    def measure(self) -> Iterator[tuple[str, dict[str, Score], int]]:
        """Label, scores, and how many clips are silent, of the undamaged half and then of each damage."""
        undamaged = self._embed(self.other)
        yield BASELINE, self._scores(undamaged, self.captions), 0
        for name, damage in DAMAGES.items():
            rate = self.embedding.sample_rate
            damaged = [(clip, damage(waveform, rate, item)) for item, (clip, waveform) in enumerate(self.other)]
            silent = sum(bool(waveform.abs().max() < SILENT_PEAK) for _, waveform in damaged)
            yield name, self._scores(self._embed(damaged), self.captions), silent
        yield COPY, self._scores(self.real, {}), 0
        if self.captions:
            key, shuffled = f"text_correlation_{self.embedding.name}", _shuffled(self.captions, undamaged)
            yield SHUFFLED, {key: self._scores(undamaged, shuffled)[key]}, 0

    def _scores(self, frames: Heard, captions: Mapping[str, str]) -> dict[str, Score]:
        judge = Judge(self.embedding, self.statistics, captions)
        for clip, one in frames:
            judge.add(one, [clip.id], [clip.piece])
        return judge.scores(clip_vectors(one) for _, one in self.real)

    def _read(self, clips: list[Clip]) -> Heard:
        read = list(read_ahead(clips, self.embedding.sample_rate))
        usable = [(clip, waveform) for clip, waveform in read if isinstance(waveform, Tensor)]
        if not usable:
            raise ValueError(f"none of the {len(clips)} clips of one half is usable; the first: {read[0][1]}")
        return usable

    def _embed(self, waveforms: Heard) -> Heard:
        frames = []
        for clip, waveform in waveforms:
            frames.append((clip, embed(self.embedding, waveform[None, None], self.embedding.sample_rate).cpu()))
            self.progress.advance(self.task)
        return frames


def _shuffled(captions: Mapping[str, str], clips: Heard) -> dict[str, str]:
    """Every clip with the caption of another, the next one on a round trip in random order."""
    order = torch.randperm(len(clips), generator=keyed_generator(0, "selftest captions", 0, 0)).tolist()
    ids = [clips[index][0].id for index in order]
    return {one: captions[other] for one, other in zip(ids, ids[1:] + ids[:1], strict=True)}


def plain_difference(first: Row, second: Row, metric: str) -> Difference | None:
    """The difference of two plain values; None where one is missing.

    Its interval is as wide as both 95 % intervals together (as the root of their summed squares). The values are plain,
    because at equal n the bias is alike.
    """
    one, other = first.metrics[metric], second.metrics[metric]
    if one.value is None or other.value is None:
        return None
    widths = [score.high - score.low for score in (one, other) if score.high is not None and score.low is not None]
    difference, half = one.value - other.value, math.hypot(*widths) / 2
    low, high = (difference - half, difference + half) if len(widths) == 2 else (None, None)
    return Difference(first.title, second.title, metric, difference, low, high)


def selftest_sheets(results: Results) -> list[Sheet]:
    """The results of `selftest` as a table for each embedding."""
    return [_sheet(results, embedding) for embedding in results.embeddings()]


def _sheet(results: Results, embedding: str) -> Sheet:
    """One embedding's rows: each value with its interval, and whether the damage was noticed."""
    words = {(one.first, one.metric): NOTICED.get(one.verdict, one.verdict) for one in results.differences}
    measured = [key for key, score in results.rows[0].metrics.items() if score.embedding["name"] == embedding]
    scores = [results.rows[0].metrics[key] for key in measured]
    generated, reference = (max(getattr(score, f"n_{side}") or 0 for score in scores) for side in SIDES)
    lines = []
    for row in results.rows:
        cells = [_cell(row, key, words.get((row.title, key), "")) for key in measured]
        left_out = row.facts["left_out"].get(embedding, 0)
        lines.append([row.label, *cells, f"{left_out} of {generated}" if left_out else "-"])
    note = (
        f"{generated} clips against {reference} others: plain value, 95 % interval (of the "
        "corrected value). Noticed: farther from the first row, which compares two disjoint halves of the same music, "
        "than the uncertainty of both."
    )
    headings = ["damage", *(key.removesuffix(f"_{embedding}") + arrow(key) for key in measured), "evaluate leaves out"]
    return Sheet(headings, lines, [note], embedding)


def _cell(row: Row, key: str, word: str) -> str:
    score = row.metrics.get(key)
    return "-" if score is None else f"{score.plain()} {score.interval()}" + (f", {word}" if word else "")
