"""The measures of music over folders: their means, and the range that real music fills."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.progress import Progress
from torch import Tensor

from melody_cm.data import AudioProblem, Clip
from melody_cm.evaluation.clips import read_ahead
from melody_cm.evaluation.music import middle_half, music_measures, pair_measures
from melody_cm.evaluation.score import Score

SAMPLE_RATE = 24000  # Of all clips when they are measured.
Measured = dict[str, dict[str, float]]  # By clip id, by measure.
Scored = tuple[dict[str, Score], dict[str, dict[str, float]]]  # Means and the numbers of single clips, by measure.


def music_scores(
    generated: Sequence[Clip], reference: Sequence[Clip], groups: Mapping[str, str], progress: Progress
) -> Scored:
    """The mean of every measure over generated clips, beside the middle half of the reference; and those of each clip.

    `details` has the quartiles of real music (`real_low`, `real_high`) and the share of generated clips between them
    (`inside`): about one half if they are like real music, whichever way they differ otherwise.

    Args:
        groups: what belongs together (a prompt, a piece) by clip id; each counts once for the interval.
    """

    def measure(name: str, clips: Sequence[Clip]) -> Measured:
        task = progress.add_task(f"music, {name}", total=len(clips))
        found = {}
        for clip, waveform in read_ahead(clips, SAMPLE_RATE):
            if isinstance(waveform, Tensor):
                found[clip.id] = music_measures(waveform, SAMPLE_RATE)
            progress.advance(task)
        return found

    real = list(measure("reference", reference).values())
    ranges, measured = middle_half(real), measure("generated", generated)
    scores, samples = _means(measured, groups, len(real))
    for name, (low, high) in ranges.items():
        if name in scores:
            inside = fmean(low <= value <= high for value in samples[name].values())
            scores[name].details = {"real_low": low, "real_high": high, "inside": inside}
    return scores, samples


def pair_scores(pairs: Sequence[tuple[Clip, Clip]], groups: Mapping[str, str], progress: Progress) -> Scored:
    """The means of `pair_measures` over generated clips and those that they should sound like; and those of each."""
    task = progress.add_task("pairs", total=len(pairs))
    sides = (read_ahead([pair[side] for pair in pairs], SAMPLE_RATE) for side in (0, 1))
    found: Measured = {}
    for (clip, waveform), (_, reference) in zip(*sides, strict=True):
        if not isinstance(waveform, AudioProblem) and not isinstance(reference, AudioProblem):
            found[clip.id] = pair_measures(waveform, reference, SAMPLE_RATE)
        progress.advance(task)
    return _means(found, groups, len(found))


def _means(measured: Measured, groups: Mapping[str, str], reference: int) -> Scored:
    """A clip where a measure is not finite is left out of that measure."""
    scores, samples = {}, {}
    for name in dict.fromkeys(name for one in measured.values() for name in one):
        values = {clip: one[name] for clip, one in measured.items() if math.isfinite(one[name])}
        if values:
            together: dict[str, list[float]] = {}
            for clip, value in values.items():
                together.setdefault(groups[clip], []).append(value)
            means = [fmean(group) for group in together.values()]
            method = "mean of the means of prompts or pieces; Student's interval"
            samples[name] = values
            scores[name] = Score.mean(means, method, n_reference=reference, n_generated=len(values))
    return scores, samples
