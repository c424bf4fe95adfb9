"""Measurements out of what the comparison, the ablation and the long music give."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.benchmark.ablation import Ablation
from melody_cm.benchmark.passes import passes_of_a_clip
from melody_cm.benchmark.reproduce.claims import Difference, Measurements, Number
from melody_cm.benchmark.row import row_title
from melody_cm.evaluation import Score
from melody_cm.evaluation.forward_passes import PassCounter, melody_passes, musiclm_passes, saving
from melody_cm.evaluation.uncertainty import mean_interval
from melody_cm.pipelines import PretrainedPipeline

FEWEST_PROMPTS = 8  # A bootstrap over fewer prompts makes intervals that are too narrow.
LENGTHS = (10, 30)  # Seconds that the paper speaks of.


def from_comparison(results: Mapping[str, Any]) -> Measurements:
    """The scores and speeds of a comparison's rows, and its paired differences over prompts."""
    found = Measurements()
    for row in results["rows"]:
        title = row_title(row)
        found.numbers += [_score(title, key, Score.from_dict(data)) for key, data in row["metrics"].items()]
        found.numbers += _speed(title, row["speed"])
    found.differences = [
        Difference(*(pair[key] for key in ("first", "second", "metric", "low", "high", "n")))
        for pair in results["comparisons"]
        if pair["n"] >= FEWEST_PROMPTS
    ]
    return found


def _score(row: str, key: str, score: Score) -> Number:
    value = score.value if score.corrected is None else score.corrected
    # The interval of a distance that is mostly bias says nothing of the music.
    low, high = (None, None) if score.too_few else (score.low, score.high)
    return Number(row, key, float("nan") if value is None else value, low, high, score.n_generated)


def _speed(row: str, speed: Mapping[str, Any] | None) -> list[Number]:
    if speed is None:
        return []
    low, high = speed["times_real_time_range"]
    count = speed["repetitions"]
    return [
        Number(row, "times_real_time", speed["times_real_time"], low, high, count),
        Number(row, "wall_seconds", speed["wall_seconds"], n=count),
    ]


def from_ablation(ablation: Ablation) -> Measurements:
    """Means over seeds, and the differences to the baseline seed by seed."""
    found = Measurements()
    for entry in ablation.entries():
        steps = "" if entry.num_steps is None else f", {entry.num_steps} steps"
        row, baseline, count = f"{entry.recipe}{steps}", f"{ablation.baseline}{steps}", len(entry.values)
        found.numbers.append(_mean(row, entry.metric, entry.values))
        if entry.low is not None and entry.high is not None:
            found.differences.append(Difference(row, baseline, entry.metric, entry.low, entry.high, count))
    return found


def from_passes(pipelines: Mapping[str, PretrainedPipeline], num_steps: Mapping[str, int], prompt: str) -> Measurements:
    """The formulas for the paper's lengths, and one clip of each system, counted."""
    found = Measurements()
    for seconds in LENGTHS:
        melody, musiclm = melody_passes(seconds, num_steps["melody"]), musiclm_passes(seconds)
        row = f"{seconds} s"
        found.numbers += [
            Number(row, "musiclm passes by formula", musiclm),
            Number(row, "melody passes by formula", melody),
        ]
        found.numbers.append(Number(row, "saved by formula", saving(melody, musiclm)))
    for name, pipeline in pipelines.items():
        found.numbers += _counted(name, pipeline, num_steps[name], prompt)
    return found


def _counted(name: str, pipeline: PretrainedPipeline, num_steps: int, prompt: str) -> list[Number]:
    seconds = float(pipeline.max_seconds)
    with PassCounter(pipeline.networks) as counter:
        pipeline.generate([prompt], seconds, [0], num_steps)
    passes = passes_of_a_clip(counter, 1, 1, pipeline, seconds, num_steps)
    total, formula = passes["total"]["batched"], passes["closed_form"]
    return [
        Number("counted here", f"{name} passes for {seconds:g} s", total),
        Number("counted here", f"{name} beyond its formula", total - formula),
    ]


def from_long_music(values: Mapping[str, Mapping[str, Float[Tensor, " n"]]], baseline: str) -> Measurements:
    """Means over clips by way of making them and quantity, and differences to the baseline clip by clip."""
    found = Measurements()
    for row, quantities in values.items():
        for quantity, ours in quantities.items():
            usable = ours[ours.isfinite()].double()
            if len(usable):
                found.numbers.append(_mean(row, quantity, usable.tolist()))
            pairs = (ours - values[baseline][quantity]).double()
            pairs = pairs[pairs.isfinite()]
            if row != baseline and len(pairs) > 1:
                low, high = _interval(pairs.tolist())
                found.differences.append(Difference(row, baseline, quantity, low, high, len(pairs)))
    return found


def _mean(row: str, quantity: str, values: Sequence[float]) -> Number:
    low, high = _interval(values) if len(values) > 1 else (None, None)
    return Number(row, quantity, torch.tensor(values, dtype=torch.float64).mean().item(), low, high, len(values))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = mean_interval(sum(values), sum(value**2 for value in values), len(values))
    return float(low), float(high)
