"""Generated against real sound files: all measures of all embeddings, clip by clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from melody_cm.data import Clip
from melody_cm.data.jobs import cache_folder, require_writable
from melody_cm.evaluation.clips import embed_clips, find_clips, pair_clips, read_clip_prompts
from melody_cm.evaluation.embeddings import LevelMatchedEmbedding
from melody_cm.evaluation.judge import Judge, clip_vectors, default_embeddings, open_embeddings, uses_prompts
from melody_cm.evaluation.music_scores import music_scores, pair_scores
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.reference import FadtkFile, cached_statistics, content_hash
from melody_cm.evaluation.results import Results, Row, arrow
from melody_cm.evaluation.score import SIDES, Score, refuse_unlike
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.evaluation.tables import Sheet, change_sheet, embedding_notes, number
from melody_cm.evaluation.tags import tag_divergence
from melody_cm.interfaces import AudioEmbedding
from melody_cm.placement import Placement, refuse_unlike_placements
from melody_cm.storage import hash_data, hash_file

WORST_SHOWN, LEFT_OUT_SHOWN = 5, 10
DETAILS = {
    "infinity": "extrapolated to infinitely many generated clips",
    "plain_low": "plain value at this n, from",
    "plain_high": "plain value at this n, to",
    "shuffled": "with wrong captions",
    "excess": "nearer to its own caption than to wrong ones by",
    "excess_low": "lower end of the interval of that",
    "excess_high": "upper end of the interval of that",
    "mean_similarity": "mean cosine to the nearest training clip",
    "named": "clips whose prompt names it",
    "real_low": "middle half of the reference, from",
    "real_high": "middle half of the reference, to",
    "inside": "share of clips within it",
}


def evaluate(
    generated: str | Path,
    reference: str | Path,
    embeddings: Sequence[str | AudioEmbedding] | None = None,
    *,
    split: str | None = None,
    generated_split: str | None = None,
    prompts: str | Path | None = None,
    training: str | Path | None = None,
    against: str | Path | None = None,
    music: bool = False,
    paired: bool = False,
    level_matched: bool = False,
    out: str | Path | None = None,
    placement: Placement | None = None,
    show_progress: bool = False,
) -> Results:
    """Judge a folder of audio from any system against real music, by every measure of every embedding.

    Args:
        generated: folder of sound files, or a manifest; reference: the same, or statistics of fadtk (`FILE.npz`, or
            `FILE.npz:MODEL`).
        embeddings: names as in `load_embedding`, or embeddings themselves; if left out, logmel, and musicnn where it is
            installed.
        split, generated_split: rows of a manifest: train, valid or test; all if left out.
        prompts: file with the text of every generated file (`read_clip_prompts`).
        training: the training music of the system, to find near copies of it.
        against: older results to compare with; refused if they cannot be compared.
        music: also measure pitch, rhythm and level, beside the quartiles of the reference (`music_measures`).
        paired: also compare every generated file with the reference of the same name: harmony and spectrum
            (`pair_measures`), and with a tagger the divergence of tags.
        level_matched: also judge by every embedding at equal loudness.
        out: where results.json is written; nowhere if left out.
        placement: where the embeddings work, and how precisely; `Placement.choose()` if left out.

    Returns:
        One row, "generated": scores by metric key; samples: the distance of every clip (`song_distance_<embedding>`)
        and its cosine to its prompt (`text_similarity_<embedding>`); facts: what was left out (`dropped`).

    Raises:
        FileNotFoundError: a file, folder or preset is missing.
        ValueError: prompts or training music without an embedding that can use them, a side without a usable clip,
            results that cannot be compared, or a generated clip without its pair.
    """
    check_place(out)
    clips = find_clips(generated, generated_split)
    judges = open_embeddings(default_embeddings(len(clips)) if embeddings is None else embeddings)
    placement = placement or Placement.choose()
    placement.put(judges)
    if level_matched:
        judges += [LevelMatchedEmbedding(judge) for judge in judges]
    sides = Sides(
        clips,
        FadtkFile.parse(str(reference)) or find_clips(reference, split),
        read_clip_prompts(prompts, clips) if prompts else None,
        find_clips(training) if training else None,
        music,
        paired,
    )
    made = {"reference_fingerprint": sides.reference_fingerprint, "placement": placement.facts()}
    if against is not None:
        _refuse_incomparable(Results.read(Path(against), "evaluate"), judges, made)
    with Progress(console=Console(stderr=True), disable=not show_progress) as progress:
        row = evaluate_clips(sides, judges, progress)
    facts = provenance(generated=str(generated), reference=str(reference), split=split, **made)
    results = Results("evaluate", facts, [row])
    if out is not None:
        results.write(Path(out))
    return results


def check_place(out: str | Path | None) -> None:
    """Refuse, before any work, a place where no file can be written.

    Raises:
        ValueError: it is a folder, or lies below a file; OSError: nothing can be written there.
    """
    place = None if out is None else Path(out).absolute()
    if place and (place.is_dir() or not next(parent for parent in place.parents if parent.exists()).is_dir()):
        raise ValueError(f"--out {out} is a folder, or lies below a file; name a file, e.g. results.json")
    if place:
        require_writable(place.parent)


@dataclass
class Sides:
    """What is judged (with its prompts by clip id, if known), by which music, and what its makers learned from.

    The reference may be a file of fadtk statistics (`.npz`) instead of clips, which then has neither music to measure
    nor pairs.
    """

    generated: Sequence[Clip]
    reference: Sequence[Clip] | FadtkFile
    prompts: Mapping[str, str] | None = None
    training: Sequence[Clip] | None = None
    music: bool = False
    paired: bool = False

    @cached_property
    def pairs(self) -> list[tuple[Clip, Clip]]:
        """Every generated clip with the reference of its name; none unless they are asked for.

        Raises:
            ValueError: a clip has no such reference.
        """
        return pair_clips(self.generated, self.reference) if self.paired else []

    @cached_property
    def groups(self) -> dict[str, str]:
        """What generated clips belong to: their prompts, or their pieces where those are fewer."""
        pieces = {clip.id: clip.piece for clip in self.generated}
        return min(dict(self.prompts or pieces), pieces, key=lambda groups: len(set(groups.values())))

    @cached_property
    def reference_fingerprint(self) -> str:
        """A hash of the content of the reference; distances to unlike references must not be compared."""
        if isinstance(self.reference, FadtkFile):
            return hash_file(self.reference.path)
        return hash_data(
            sorted([content_hash(clip.audio), clip.start, clip.duration or 0.0] for clip in self.reference)
        )


def evaluate_clips(sides: Sides, embeddings: Sequence[AudioEmbedding], progress: Progress) -> Row:
    """The row of `evaluate` for clips that were found before."""
    names = ", ".join(embedding.name for embedding in embeddings)
    if sides.prompts and not any(uses_prompts(embedding) for embedding in embeddings):
        raise ValueError(
            f"prompts need an embedding of texts or tags too, not only {names}; add musicnn:tags, joint:STAGE or "
            "clap:FOLDER"
        )
    if (sides.music or sides.paired) and isinstance(sides.reference, FadtkFile):
        raise ValueError(f"{sides.reference.path} holds statistics; give sound files to measure music or pairs")
    if sides.training and not any(embedding.identity.trained for embedding in embeddings):
        raise ValueError(f"the memorization check needs a trained embedding, not only {names}; add e.g. joint:STAGE")
    pairs = sides.pairs  # A missing one is told before any work.
    row = Row("generated", {}, facts={"dropped": {}})
    if isinstance(sides.reference, FadtkFile):  # Before any work: a file of another model is refused.
        row.facts["reference_model"] = {each.name: sides.reference.model_for(each.name) for each in embeddings}
    for embedding in embeddings:
        evaluation = _Evaluation(sides, embedding, progress)
        row.metrics |= evaluation.run()
        row.samples |= evaluation.judge.samples()
        row.facts["dropped"][embedding.name] = evaluation.dropped
    found = [music_scores(sides.generated, sides.reference, sides.groups, progress)] if sides.music else []
    found += [pair_scores(pairs, sides.groups, progress)] if pairs else []
    for metrics, samples in found:
        row.metrics |= metrics
        row.samples |= samples
    return row


class _Evaluation:
    """One embedding's run over all sides; `dropped` are the clips left out, by side and reason."""

    def __init__(self, sides: Sides, embedding: AudioEmbedding, progress: Progress) -> None:
        self.sides, self.embedding, self.progress = sides, embedding, progress
        self.dropped: dict[str, dict[str, list[str]]] = {}

    def run(self) -> dict[str, Score]:
        """All scores by key."""
        self.judge = Judge(self.embedding, self._reference(), self.sides.prompts)
        for clip, frames in self._hear("generated", self.sides.generated, self.judge.drop):
            self.judge.add(frames, [clip.id], [clip.piece])
        self.dropped["generated"] = self.judge.generated.dropped
        return self._scores() | self._divergence()

    def _scores(self) -> dict[str, Score]:
        if not self.sides.training or not self.embedding.identity.trained:
            return self.judge.scores()
        lost = EmbeddingStatistics.empty(self.embedding.width)
        heard = self._hear("training", self.sides.training, lost.drop)
        scores = self.judge.scores(clip_vectors(frames) for _, frames in heard)
        self.dropped["training"] = lost.dropped
        return scores

    def _divergence(self) -> dict[str, Score]:
        """Of the tags of pairs: the generated clips are heard a second time, because only their means were kept."""
        if not self.sides.pairs or not self.embedding.tags:
            return {}
        sides = ([pair[side] for pair in self.sides.pairs] for side in (0, 1))
        vectors = [
            {clip.id: clip_vectors(frames)[0] for clip, frames in self._hear(f"pairs, {name}", clips, lambda *_: None)}
            for name, clips in zip(SIDES, sides, strict=True)
        ]
        both = [pair for pair in self.sides.pairs if pair[0].id in vectors[0] and pair[1].id in vectors[1]]
        found = (torch.stack([vectors[side][pair[side].id] for pair in both]) for side in (0, 1))
        groups = [self.sides.groups[clip.id] for clip, _ in both]
        return tag_divergence(*found, groups, self.embedding.identity) if both else {}

    def _reference(self) -> EmbeddingStatistics | Gaussian:
        """The reference's statistics: read, from the cache, or computed now."""
        if isinstance(self.sides.reference, FadtkFile):
            return self.sides.reference.gaussian(self.embedding.name)

        def compute() -> EmbeddingStatistics:
            statistics = EmbeddingStatistics.empty(self.embedding.width)
            for clip, frames in self._hear("reference", self.sides.reference, statistics.drop):
                statistics.add(frames, [clip.piece])
            return statistics

        folder = cache_folder() / "evaluation" / Placement.of([self.embedding]).name
        statistics = cached_statistics(self.embedding.identity, self.sides.reference, compute, folder)
        self.dropped["reference"] = statistics.dropped
        return statistics

    def _hear(
        self, side: str, clips: Sequence[Clip], drop: Callable[[str, str], Any]
    ) -> Iterator[tuple[Clip, Float[Tensor, "1 l d"]]]:
        """The embeddings of one side's usable clips, with a progress bar; `drop` hears of the others."""
        task = self.progress.add_task(f"{self.embedding.name}, {side}", total=len(clips))
        lost: list[tuple[str, str]] = []
        yield from embed_clips(clips, self.embedding, lost.append, lambda: self.progress.advance(task))
        if len(lost) == len(clips):
            raise ValueError(f"none of the {len(clips)} {side} clips is usable; the first: {lost[0][1]}")
        for reason, message in lost:
            drop(reason, message)


def _refuse_incomparable(older: Results, embeddings: Sequence[AudioEmbedding], made: Mapping[str, Any]) -> None:
    """Refuse to compare with results of another reference, of other embeddings, or that were made otherwise."""
    refuse_unlike_placements(older.metadata, made)
    if older.metadata["reference_fingerprint"] != made["reference_fingerprint"]:
        raise ValueError(
            f"the results cannot be compared, because their references differ: {older.metadata['reference']!r} has "
            "another content (or split); evaluate both against the same music"
        )
    identities = {embedding.name: asdict(embedding.identity) for embedding in embeddings}
    if not identities.keys() & older.embeddings().keys():
        raise ValueError(
            f"the older results know only the embedding {', '.join(older.embeddings())}; evaluate with one of them"
        )
    for score in older.rows[0].metrics.values():
        if score.embedding and score.embedding["name"] in identities:
            refuse_unlike(score, replace(score, embedding=identities[score.embedding["name"]]))


def evaluation_sheets(results: Results, against: str | Path | None = None) -> list[Sheet]:
    """The results of `evaluate` as a table, and what changed against older results where they are given."""
    changes = [] if against is None else [change_sheet(Results.read(Path(against), "evaluate"), results)]
    return [_sheet(results), *changes]


def _sheet(results: Results) -> Sheet:
    """The scores with their intervals, what they are not, the clips farthest from the reference and those left out."""
    (row,) = results.rows
    lines = []
    for key, score in row.metrics.items():
        lines.append([key + arrow(key), score.plain(), number(score.corrected), score.interval(), score.counts()])
    notes = ["↓ smaller is better, ↑ larger is better; corrected: without the bias of small samples."]
    notes += embedding_notes(results)
    for key, score in row.metrics.items():
        notes += [
            f"{key}: {words} {score.details[name]:.4g}" for name, words in DETAILS.items() if name in score.details
        ]
        notes += [f"{key}: {warning}" for warning in score.warnings]
    headings = ["metric", "value", "corrected", "95 % interval", "clips (pieces), generated / reference"]
    return Sheet(headings, lines, [*notes, *_worst(row), *_left_out(row)])


def _worst(row: Row) -> list[str]:
    lines = []
    for key, values in row.samples.items():
        if key.startswith("song_distance_"):
            worst = sorted(values, key=values.__getitem__, reverse=True)[:WORST_SHOWN]
            named = ", ".join(f"{name} {values[name]:.4g}" for name in worst)
            lines.append(f"farthest clips by {key.replace('song_distance', 'fad')}: {named}")
    return lines


def _left_out(row: Row) -> list[str]:
    """What no embedding could use, once; a long list is only begun here."""
    lines: dict[str, None] = {}
    for sides in row.facts["dropped"].values():
        for side, reason, messages in ((side, *one) for side, reasons in sides.items() for one in reasons.items()):
            more = [f"{len(messages) - LEFT_OUT_SHOWN} more"] if len(messages) > LEFT_OUT_SHOWN else []
            told = [*messages[:LEFT_OUT_SHOWN], *more]
            lines |= dict.fromkeys(f"left out ({side}, {reason}): {message}" for message in told)
    return list(lines)
