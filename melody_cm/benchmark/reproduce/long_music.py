"""How music of several windows hangs together (MusicCM, section 3.3), clip by clip."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.coherence import segment_similarity, waveform_seam_ratio
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.pipelines import MusicCM
from melody_cm.pipelines.request import Windows


def coherence(
    pipeline: MusicCM,
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    num_steps: int,
    windows: Windows,
) -> dict[str, Float[Tensor, " n"]]:
    """`seam_ratio` where independent windows meet, and `adjacent_similarity_logmel` of pieces as long as a window, of
    every prompt with every seed."""
    joints = pipeline.window_seconds(seconds, windows="independent")[1:]
    seams, similarities = [], []
    for seed in seeds:
        audio = pipeline.generate(prompts, seconds, [seed] * len(prompts), num_steps, windows=windows)
        seams.append(waveform_seam_ratio(audio.waveform, audio.sample_rate, joints))
        similarities += [_similarity(clip, audio.sample_rate, pipeline.max_seconds) for clip in audio.waveform]
    return {"seam_ratio": torch.cat(seams), "adjacent_similarity_logmel": torch.tensor(similarities)}


def _similarity(clip: Float[Tensor, "1 t"], sample_rate: int, seconds: float) -> float:
    return segment_similarity(LogMelEmbedding(), clip[None], sample_rate, seconds).adjacent
