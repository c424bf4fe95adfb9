import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from melody_cm.batch import MusicBatch
from melody_cm.comparison.stage_measures import (
    FINE_STEPS,
    denoising_measures,
    held_back_clips,
    one_step_measures,
    relative_distance,
    sample_scores,
    sampling_errors,
)
from melody_cm.data import MusicDataModule
from melody_cm.diffusion import DDIMSampler, DenoisingObjective, GridAngles, LinearAngles, UniformAngles
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.interfaces import Autoencoder, Conditioner, Conditioning, Denoiser
from melody_cm.training import ConsistencyDistillation, LatentDiffusion
from melody_cm.training.optimization import Optimization

RATE, SAMPLES, SPREAD = 16000, 16000, 1 / 3


class Identity(Autoencoder):
    """The latent is the waveform itself."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.latent_channels = RATE, 1

    def posterior(self, waveform):
        return waveform, torch.zeros_like(waveform)

    def reconstruct(self, waveform, draws):
        raise NotImplementedError

    def decode(self, latent):
        return latent

    def latent_shape(self, seconds):
        return (1, round(seconds * RATE))


class Nothing(Conditioner):
    def __init__(self):
        super().__init__()

    def describe(self, batch):
        return torch.zeros(len(batch), 1)

    def embed(self, source):
        return Conditioning(None, source, None, torch.zeros(len(source), dtype=torch.bool))


def gain(angle: float) -> float:
    """Velocity by noisy latent of the best predictor of white Gaussian latents."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * sin * (1 - SPREAD**2) / (SPREAD**2 * cos**2 + sin**2)


class Linear(Denoiser):
    """The best predictor of white Gaussian latents of standard deviation 1/3."""

    def __init__(self):
        super().__init__()

    def forward(self, noisy_latent, angle, conditioning):
        gains = torch.tensor([gain(value) for value in angle.tolist()], dtype=noisy_latent.dtype)
        return noisy_latent * gains[:, None, None]


class WhiteMusic(MusicDataModule):
    """12 clips of white noise."""

    def __init__(self):
        pass

    def batches(self, split, batch_size):
        assert split == "test"
        for start in range(0, 12, batch_size):
            items = torch.arange(start, min(start + batch_size, 12))
            noise = [torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(int(item))) for item in items]
            mask = torch.ones(len(items), SAMPLES, dtype=torch.bool)
            waveform = SPREAD * torch.stack(noise)
            yield MusicBatch(items, torch.full_like(items, -1), waveform, mask, ["noise"] * len(items))


@pytest.fixture(scope="module")
def clips():
    return held_back_clips(WhiteMusic(), num_clips=8, batch_size=4)


@pytest.fixture
def stage():
    objective = DenoisingObjective(LinearAngles())
    return LatentDiffusion(
        Identity(), Nothing(), Linear(), objective, LinearAngles(), DDIMSampler(), Optimization(),
        guidance_scale=1.0, sample_rate=RATE,
    )  # fmt: skip


def test_only_so_many_clips_are_used_in_whole_batches(clips):
    assert [len(batch) for batch in clips] == [4, 4]
    assert [batch.item.tolist() for batch in held_back_clips(WhiteMusic(), 5, 3)] == [[0, 1, 2], [3, 4, 5]]


def test_clips_are_put_where_the_stage_is():
    """The device `meta` stands for an accelerator that is not here."""
    batches = held_back_clips(WhiteMusic(), 8, 4, device="meta")
    assert {batch.waveform.device.type for batch in batches} == {"meta"}


def test_the_best_linear_predictor_sits_on_its_anchors(stage, clips):
    """Its velocity error is the latents' standard deviation and its improvement 0 dB (melody.md, section 9.3)."""
    measures = denoising_measures(stage, clips)
    errors = [
        SPREAD**2 / (SPREAD**2 * math.cos(angle) ** 2 + math.sin(angle) ** 2)
        for angle in ((k + 0.5) * math.pi / 32 for k in range(16))
    ]
    assert measures["velocity_mse"].value == pytest.approx(sum(errors) / 16, rel=0.01)
    assert measures["velocity_mse"].value == pytest.approx(SPREAD, rel=0.03)
    assert measures["si_snri"].value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("schedule", [LinearAngles(), UniformAngles()])
def test_the_error_of_few_steps_has_a_closed_form_for_a_linear_denoiser(stage, clips, schedule):
    def end(num_steps):
        angles = schedule.angles(num_steps).tolist()
        steps = itertools.pairwise(angles)
        return math.prod(math.cos(a - b) - math.sin(a - b) * gain(a) for a, b in steps)

    stage.schedule = schedule
    expected = abs(end(5) - end(FINE_STEPS)) / end(FINE_STEPS)
    few, many = sampling_errors(stage, clips, [5, 20])
    assert few.value == pytest.approx(expected, rel=1e-4)
    assert many.value < expected
    assert few.n_generated == 8


class Copy(ConsistencyDistillation):
    """A student that does what its linear teacher does."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.teacher, self.sampler, self.schedule = Linear(), DDIMSampler(), GridAngles(LinearAngles(), 4)
        self.objective = SimpleNamespace(guidance_scale=1.0)

    def denoising(self, batch):
        return batch.waveform, Nothing().embed(torch.zeros(len(batch), 1)), self.teacher


def test_one_step_of_a_copy_is_as_far_from_the_teachers_fifty_as_its_own(clips):
    def end(num_steps):
        steps = itertools.pairwise(LinearAngles().angles(num_steps).tolist())
        return math.prod(math.cos(a - b) - math.sin(a - b) * gain(a) for a, b in steps)

    measures = one_step_measures(Copy(), clips)
    expected = abs(end(1) - end(50)) / end(50)
    assert measures["teacher_error"].value == pytest.approx(expected, rel=1e-4)
    assert measures["student_error"].value == pytest.approx(expected, rel=1e-4)
    assert measures["student_error"].n_generated == 8


def test_samples_that_come_from_the_right_distribution_are_near_and_others_far(stage, clips):
    embedding = LogMelEmbedding()
    near = sample_scores(stage, clips, 100, embedding)["fad_logmel"]
    assert near.n_generated == near.n_reference == 8
    stage.autoencoder.decode = lambda latent: 0.05 * latent.cumsum(-1)
    far = sample_scores(stage, clips, 100, embedding)["fad_logmel"]
    assert far.value > 10 * near.value


def test_relative_distance_is_one_against_nothing():
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(relative_distance(torch.zeros_like(x), x), torch.ones(2))
    torch.testing.assert_close(relative_distance(1.5 * x, x), torch.full((2,), 0.5))
