"""What an ablation asks of a trained denoiser: how well it denoises, and what its samples are worth.

Errors have no intervals of their own: those come from several seeds.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.data import MusicDataModule
from melody_cm.diffusion import DDIMSampler, Guided
from melody_cm.evaluation import DenoisingScores, EmbeddingStatistics, Judge, Score, denoise_at_every_angle, embed
from melody_cm.interfaces import AudioEmbedding
from melody_cm.placement import Placement
from melody_cm.training import ConsistencyDistillation, LatentDiffusion

DenoisingStage = LatentDiffusion | ConsistencyDistillation
EVALUATION_SEED = 0  # The noise of the denoising measures is the same for all stages.
FINE_STEPS = 100  # Of the solution that a sampler's few steps are compared with.
TEACHER_STEPS = 50
COMPARED_CLIPS = 8  # With either of them.


def held_back_clips(
    data: MusicDataModule, num_clips: int, batch_size: int = 8, device: torch.device | str = "cpu"
) -> list[MusicBatch]:
    """The first test clips of a stage's own music, in whole batches; every stage of an ablation is judged on the same.

    Args:
        data: where they come from.
        num_clips: at most so many, filled up to whole batches of `batch_size`.
        device: where they are put, that of the stage.
    """
    batches = islice(data.batches("test", batch_size), -(-num_clips // batch_size))
    return [batch.to(device) for batch in batches]


def _few(clips: Sequence[MusicBatch]) -> Sequence[MusicBatch]:
    """The first whole batches with `COMPARED_CLIPS` clips."""
    return clips[: -(-COMPARED_CLIPS // len(clips[0]))]


def denoising_measures(stage: DenoisingStage, clips: Sequence[MusicBatch]) -> dict[str, Score]:
    """`velocity_mse`, `si_snri` and `si_snri_median` (dB) of one call without guidance, over 16 noise levels."""
    scores = DenoisingScores(sum(map(len, clips))).to(stage.device)
    first = 0
    for batch in clips:
        places = list(range(first, first + len(batch)))
        with Placement.of([stage]).computing():
            latent, conditioning, denoiser = stage.denoising(batch)
            noise = batch.draws(EVALUATION_SEED).normal("evaluation noise", latent.shape[1:], latent.device)
            denoise_at_every_angle(scores, places, latent, noise, partial(denoiser, conditioning=conditioning))
        first += len(batch)
    result, method = scores.compute(), "over clips and 16 noise levels"
    found = {name: result[name] for name in ("velocity_mse", "si_snri", "si_snri_median")}
    return {name: Score.bare(value, method, first) for name, value in found.items() if value is not None}


def sample_scores(
    stage: DenoisingStage,
    clips: Sequence[MusicBatch],
    num_steps: int,
    embedding: AudioEmbedding,
) -> dict[str, Score]:
    """Distances of samples to the test clips themselves, from whose tokens or captions they were made."""
    stage.num_steps = num_steps
    reference = EmbeddingStatistics.empty(embedding.width)
    made: list[tuple[Tensor, list[str]]] = []
    for batch in clips:
        names = [str(item) for item in batch.item.tolist()]
        reference.add(embed(embedding, batch.need_waveform(), stage.sample_rate).cpu(), names)
        with Placement.of([stage]).computing():
            sampled = stage.sample(batch).float().clamp(-1, 1)
        made.append((embed(embedding, sampled, stage.sample_rate).cpu(), names))
    judge = Judge(embedding, reference)
    for frames, names in made:
        judge.add(frames, names, names)
    return judge.scores()


def sampling_errors(stage: LatentDiffusion, clips: Sequence[MusicBatch], steps: Sequence[int]) -> list[Score]:
    """How far a deterministic sampler ends, at each number of steps, from its own solution at 100 steps from the same
    noise, relative to the RMS of that solution: the error of few steps alone, whatever the denoiser is worth."""
    errors: list[list[Tensor]] = [[] for _ in steps]
    for batch in _few(clips):
        with Placement.of([stage]).computing():
            solution = stage.sample_latent(batch, FINE_STEPS)
            for found, num_steps in zip(errors, steps, strict=True):
                found.append(relative_distance(stage.sample_latent(batch, num_steps), solution))
    return [_mean(found, f"against {FINE_STEPS} steps from the same noise") for found in errors]


def one_step_measures(stage: ConsistencyDistillation, clips: Sequence[MusicBatch]) -> dict[str, Score]:
    """Distance of one step from the teacher's 50 guided steps from the same noise, relative to their RMS: the
    student's (`student_error`) and the guided teacher's own (`teacher_error`)."""
    errors: dict[str, list[Tensor]] = {"student_error": [], "teacher_error": []}
    schedule = stage.schedule.schedule  # The one behind the student's grid.
    guided = Guided(stage.teacher, stage.objective.guidance_scale)
    for batch in _few(clips):
        with Placement.of([stage]).computing():
            latent, conditioning, denoiser = stage.denoising(batch)
            noise = batch.draws(EVALUATION_SEED).normal("evaluation noise", latent.shape[1:], latent.device)
            student = stage.sampler.sample(denoiser, noise, conditioning, stage.schedule.angles(1), [])
            teacher, solution = (
                DDIMSampler().sample(guided, noise, conditioning, schedule.angles(steps), [])
                for steps in (1, TEACHER_STEPS)
            )
        errors["student_error"].append(relative_distance(student, solution))
        errors["teacher_error"].append(relative_distance(teacher, solution))
    method = f"against the teacher's {TEACHER_STEPS} guided steps from the same noise"
    return {name: _mean(values, method) for name, values in errors.items()}


def relative_distance(first: Float[Tensor, "b c *axes"], second: Float[Tensor, "b c *axes"]) -> Float[Tensor, " b"]:
    """RMS of the difference of two latents, relative to that of the second."""
    return (first - second).flatten(1).norm(dim=1) / second.flatten(1).norm(dim=1)


def _mean(values: Sequence[Tensor], method: str) -> Score:
    joined = torch.cat(values)
    return Score.bare(joined.mean().item(), method, len(joined))
