"""The Frechet distance between two collections of sound files."""

from collections.abc import Callable
from typing import Any

from melody_cm.data import Corpus, read_audio
from melody_cm.evaluation.frechet import FrechetDistance
from melody_cm.evaluation.resampling import embed
from melody_cm.interfaces import AudioEmbedding


def corpus_distance(
    generated: Corpus,
    reference: Corpus,
    embedding: AudioEmbedding,
    on_clip: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    """`FrechetDistance.compute()` over all clips of both, and `problems`: what was left out and why.

    Args:
        on_clip: called after every clip, for a progress bar.

    Raises:
        ValueError: a side has too few usable clips.
    """
    metric = FrechetDistance(embedding.identity)
    problems = []
    for corpus, real in ((generated, False), (reference, True)):
        problems += _add(metric, corpus, embedding, real, on_clip)
    return {**metric.compute(), "problems": problems}


def _add(
    metric: FrechetDistance, corpus: Corpus, embedding: AudioEmbedding, real: bool, on_clip: Callable[[], Any]
) -> list[str]:
    """Add every usable clip; one message for each other one.

    Raises:
        ValueError: no clip is usable.
    """
    clips = corpus.clips()
    problems = []
    for clip in clips:
        try:
            waveform = read_audio(clip.audio, clip.start, clip.duration, embedding.sample_rate)
            metric.update(embed(embedding, waveform[None, None], embedding.sample_rate), real=real)
        except ValueError as problem:
            problems.append(str(problem) if str(clip.audio) in str(problem) else f"{clip.audio}: {problem}")
        on_clip()
    if len(problems) == len(clips):
        reason = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"none of the {len(clips)} clips of {corpus} is usable{reason}")
    return problems
