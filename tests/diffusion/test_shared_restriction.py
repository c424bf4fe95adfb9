"""Shared restriction: fusion, coverage, noise level, identity at one window, conditions of windows, loops."""

import itertools
import math

import pytest
import torch
from diffusion_toys import GaussianDenoiser, LinearDenoiser, no_conditioning
from torch import Tensor, nn

from melody_cm.diffusion import (
    ConsistencyFunction,
    ConsistencySampler,
    DDIMSampler,
    Guided,
    LinearAngles,
    SharedRestriction,
)
from melody_cm.diffusion.shared_restriction import select_rows, window_weights
from melody_cm.interfaces import Conditioning, Denoiser
from melody_cm.randomness import keyed_generator, normal_rows
from melody_cm.signal.windows import window_starts

WINDOW = 8


class FrameMixer(Denoiser):
    """Looks at neighbouring frames and at where in the window it is, so that overlapping windows disagree."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mix = nn.Conv1d(2, 2, 3, padding=1)
        self.place = nn.Parameter(torch.randn(2, WINDOW))
        self.batches = []

    def forward(self, noisy_latent, angle, conditioning):
        self.batches.append(len(noisy_latent))
        shape = noisy_latent.shape
        mixed = self.mix(noisy_latent.movedim(-1, 1).reshape(-1, 2, WINDOW) if noisy_latent.ndim == 4 else noisy_latent)
        mixed = torch.tanh(mixed + self.place)
        if noisy_latent.ndim == 4:
            mixed = mixed.unflatten(0, (shape[0], shape[3])).movedim(1, -1)
        told = 0 if conditioning.pooled is None else conditioning.pooled.sum(1)
        return mixed + (angle + told).view(-1, *[1] * (len(shape) - 1))


def generators(clips, seed=0):
    return [keyed_generator(seed, "test", 0, clip) for clip in range(clips)]


def told(values) -> Conditioning:
    pooled = torch.as_tensor(values, dtype=torch.float32)[:, None]
    return Conditioning(None, pooled, None, torch.zeros(len(pooled), dtype=torch.bool))


def crop_matrix(starts, length, weights) -> Tensor:
    """All windows one under the other, each a weighted crop of the canvas."""
    rows = torch.zeros(len(starts) * WINDOW, length, dtype=torch.float64)
    for row, (start, place) in enumerate(itertools.product(starts, range(WINDOW))):
        rows[row, (start + place) % length] = weights[place]
    return rows


@pytest.mark.parametrize("kind", ["ones", "hann"])
@pytest.mark.parametrize("loop", [False, True])
def test_the_fused_clean_latent_is_the_least_squares_solution(kind, loop):
    noisy, angle = normal_rows(generators(2), (2, 21)), torch.tensor([0.9, 1.3])
    denoiser = FrameMixer()
    fused = ConsistencyFunction(SharedRestriction(denoiser, WINDOW, 3, kind, loop))(noisy, angle, no_conditioning(2))
    starts = list(range(0, 21, 3)) if loop else [0, 3, 6, 9, 12, 13]
    around = [torch.arange(start, start + WINDOW) % 21 for start in starts]
    windows = [ConsistencyFunction(denoiser)(noisy[..., frames], angle, no_conditioning(2)) for frames in around]
    weights = torch.ones(WINDOW) if kind == "ones" else torch.hann_window(WINDOW, periodic=False).clamp(min=0.1)
    roots = weights.double().sqrt()
    matrix = crop_matrix(starts, 21, roots)
    wanted = torch.cat([window.double() * roots for window in windows], dim=-1).flatten(0, 1).T
    solution = torch.linalg.lstsq(matrix, wanted).solution.T.unflatten(0, (2, 2))
    torch.testing.assert_close(fused.double(), solution, rtol=0, atol=1e-5)
    assert (windows[1][..., 0] - windows[0][..., 3]).abs().max() > 0.1  # They do disagree.


@pytest.mark.parametrize("loop", [False, True])
def test_every_frame_is_covered_whatever_the_length(loop):
    for length, window, stride in itertools.product(range(1, 40), range(1, 12), range(1, 12)):
        if stride > window or window > length:
            continue
        starts = window_starts(length, window, stride, loop)
        covered = {(start + place) % length for start in starts for place in range(window)}
        assert covered == set(range(length))
        assert all(loop or start + window <= length for start in starts)
        assert len(set(starts)) == len(starts)


def test_the_windows_of_one_minute_are_those_of_the_specification():
    assert [len(window_starts(1500, 256, stride)) for stride in (256, 128, 64, 32)] == [6, 11, 21, 40]
    assert window_starts(1000, 128, 32)[-2:] == [864, 872]


@pytest.mark.parametrize("sampler", [ConsistencySampler(), DDIMSampler()])
@pytest.mark.parametrize("axes", [(WINDOW,), (WINDOW, 3)])
def test_one_window_is_the_plain_sampler_bit_for_bit(sampler, axes):
    noise, angles = normal_rows(generators(2), (2, *axes)), LinearAngles().angles(4)
    plain = sampler.sample(FrameMixer(), noise, told([0.1, 0.2]), angles, generators(2, 5))
    shared = SharedRestriction(FrameMixer(), WINDOW)
    assert torch.equal(sampler.sample(shared, noise, told([0.1, 0.2]), angles, generators(2, 5)), plain)


@pytest.mark.parametrize("sampler", [ConsistencySampler(), DDIMSampler()])
@pytest.mark.parametrize("axes", [(29,), (29, 3)])
def test_windows_in_batches_are_windows_one_at_a_time(sampler, axes):
    noise, angles, conditions = normal_rows(generators(2), (2, *axes)), LinearAngles().angles(3), told([0.1, 0.2])
    results, sizes = [], []
    for rows in (1, 6, 100):
        denoiser = FrameMixer()
        shared = SharedRestriction(denoiser, WINDOW, rows=rows)
        results.append(sampler.sample(shared, noise, conditions, angles, generators(2, 5)))
        sizes.append(denoiser.batches[:3])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-5)
    assert sizes == [[2, 2, 2], [6, 6, 2], [14, 14, 14]]


@pytest.mark.parametrize("sampler", [ConsistencySampler(), DDIMSampler()])
@pytest.mark.parametrize(("axes", "stride"), [((29,), None), ((29, 3), None), ((31,), 3), ((WINDOW,), None)])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_sampled_from_its_beginning_on_a_latent_is_the_same(sampler, axes, stride, rows):
    noise, angles = normal_rows(generators(2), (2, *axes)), LinearAngles().angles(4)
    count = len(window_starts(axes[0], WINDOW, stride or WINDOW // 2))
    shared = SharedRestriction(FrameMixer(), WINDOW, stride, rows=rows)
    arguments = (noise, told(torch.linspace(0, 1, 2 * count)), angles)
    with torch.no_grad():
        blocks = list(shared.sample_blocks(sampler, *arguments, generators(2, 5)))
    whole = sampler.sample(shared, *arguments, generators(2, 5))
    assert len(blocks) == count
    torch.testing.assert_close(torch.cat(blocks, dim=2), whole, rtol=0, atol=1e-6)


def test_every_step_begins_at_the_noise_level_that_its_angle_says():
    levels = []

    class Watched(GaussianDenoiser):
        def forward(self, noisy_latent, angle, conditioning):
            levels.append((noisy_latent.std(), angle[0]))
            return super().forward(noisy_latent, angle, conditioning)

    # A denoiser that knows nothing but noise predicts 0 as the clean latent: what is left is the noise.
    shared = SharedRestriction(Watched(0.0), 64, 16, "ones", rows=10**6)
    noise = normal_rows(generators(1), (8, 4096, 2))
    ConsistencySampler().sample(shared, noise, no_conditioning(1), LinearAngles().angles(5), generators(1, 5))
    assert len(levels) == 5
    for std, angle in levels:
        assert std / math.sin(angle) == pytest.approx(1, abs=0.02)


def test_a_piece_is_its_seeds():
    shared, angles = SharedRestriction(FrameMixer(), WINDOW), LinearAngles().angles(3)

    def piece(seed):
        noise = normal_rows(generators(1, seed), (2, 30))
        return ConsistencySampler().sample(shared, noise, no_conditioning(1), angles, generators(1, seed))

    assert torch.equal(piece(1), piece(1))
    assert (piece(1) - piece(2)).abs().max() > 0.1


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_each_window_of_each_clip_has_its_own_condition(guidance_scale, rows):
    denoiser = LinearDenoiser(channels=2)
    noisy, angle = normal_rows(generators(2), (2, 16)), torch.full((2,), 1.0)
    pooled = torch.randn(6, 3, generator=keyed_generator(0, "pooled", 0, 0))  # 2 clips of the windows at 0, 4 and 8.
    conditions = Conditioning(None, pooled, None, torch.zeros(6, dtype=torch.bool))
    guided = Guided(denoiser, guidance_scale)
    velocity = SharedRestriction(guided, WINDOW, 4, "ones", rows=rows)(noisy, angle, conditions)
    for clip in range(2):
        expected, count = torch.zeros(2, 16), torch.zeros(16)
        for window, start in enumerate((0, 4, 8)):
            one = select_rows(conditions, torch.tensor([3 * clip + window]))
            part = guided(noisy[clip : clip + 1, :, start : start + 8], angle[:1], one)
            expected[:, start : start + 8] += part[0]
            count[start : start + 8] += 1
        torch.testing.assert_close(velocity[clip], expected / count, rtol=0, atol=1e-5)


def test_a_loop_turned_is_the_loop_of_what_was_turned():
    """A loop has no beginning: with a window at every frame, turning the latent turns the result."""
    noisy, angle = normal_rows(generators(1), (2, 19)), torch.full((1,), 1.0)
    shared = SharedRestriction(FrameMixer(), WINDOW, 1, loop=True)
    turned = shared(noisy.roll(5, -1), angle, no_conditioning(1))
    torch.testing.assert_close(turned, shared(noisy, angle, no_conditioning(1)).roll(5, -1), rtol=0, atol=1e-5)
    open_ended = SharedRestriction(FrameMixer(), WINDOW, 1)
    turned = open_ended(noisy.roll(5, -1), angle, no_conditioning(1))
    assert (turned - open_ended(noisy, angle, no_conditioning(1)).roll(5, -1)).abs().max() > 0.01


def test_hann_weights_never_vanish():
    assert window_weights(64, "hann").min() == pytest.approx(0.1)
    assert window_weights(64, "hann").max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("length", "stride", "angle", "conditions", "message"),
    [
        (7, 4, (1,), 1, "at most the music's 7"),
        (20, 9, (1,), 1, "a stride of 9 frames must be 1 to 8"),
        (20, 0, (1,), 1, "a stride of 0 frames"),
        (20, 4, (1, 20), 1, "one angle a clip"),
        (20, 4, (1,), 3, r"3 conditions for 1 clips of 4 windows; give one a clip \(1\) or one a window \(4\)"),
    ],
)
def test_what_does_not_fit_is_refused(length, stride, angle, conditions, message):
    shared = SharedRestriction(FrameMixer(), WINDOW, stride)
    with pytest.raises(ValueError, match=message):
        shared(torch.randn(1, 2, length), torch.ones(angle), told([0.0] * conditions))


@pytest.mark.parametrize(("dropped", "told"), [([0, 0, 0], 3), ([1, 1, 1], 0), ([0, 1, 0], 2), ([0, 1, 0], None)])
def test_how_many_rows_are_kept_is_never_told_wrongly(dropped, told):
    given = Conditioning(torch.randn(3, 2, 4), None, None, torch.tensor(dropped, dtype=torch.bool), num_kept=told)
    for rows in ([0], [1], [2, 1, 0, 0, 1]):
        chosen = select_rows(given, torch.tensor(rows))
        assert chosen.num_kept in (None, int((~chosen.dropped).sum()))
