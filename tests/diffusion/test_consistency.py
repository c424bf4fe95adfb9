import math

import pytest
import torch
from diffusion_toys import (
    GaussianDenoiser,
    LinearDenoiser,
    OneAngleDenoiser,
    PointDenoiser,
    WavyNetwork,
    ZeroDenoiser,
    first_epoch,
    no_conditioning,
    over_latent,
    pooled_conditioning,
)

from melody_cm.diffusion import (
    ConsistencyFunction,
    ConsistencyObjective,
    LinearAngles,
    ScaledLinearBetaAngles,
    TimestepDenoiser,
)
from melody_cm.randomness import Draws

LCM_GRID = ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=True)


def three_networks():
    return {"student": LinearDenoiser(1), "teacher": LinearDenoiser(2), "target": LinearDenoiser(3)}


def reference_loss(networks, latent, conditioning, draws, grid, guidance_scale, distance):
    """One clip and one formula at a time, in fp64, with x0 and noise estimates instead of a rotation."""
    student, teacher, target = (networks[name].double() for name in ("student", "teacher", "target"))
    everything = torch.zeros(1, dtype=torch.bool)
    total = []
    for row in range(len(latent)):
        alone = Draws(draws.seed, draws.epochs[row : row + 1], draws.items[row : row + 1])
        pooled = None if conditioning.pooled is None else conditioning.pooled[row : row + 1].double()
        known = type(conditioning)(None, pooled, None, everything)
        i = alone.integers("distillation_index", len(grid) - 1).item()
        z, e = latent[row : row + 1].double(), alone.normal("diffusion_noise", latent.shape[1:]).double()
        a, b = grid[i].item(), grid[i + 1].item()
        x = e if i == 0 else math.cos(a) * z + math.sin(a) * e
        angle, lower = torch.tensor([a]).double(), torch.tensor([b]).double()
        v_cond, v_uncond = teacher(x, angle, known), teacher(x, angle, known.drop(~everything))
        v = v_uncond + guidance_scale * (v_cond - v_uncond)
        clean, noise = math.cos(a) * x - math.sin(a) * v, math.sin(a) * x + math.cos(a) * v
        x_lower = math.cos(b) * clean + math.sin(b) * noise
        y = math.cos(a) * x - math.sin(a) * student(x, angle, known)
        y_star = math.cos(b) * x_lower - math.sin(b) * target(x_lower, lower, known)
        difference = y - y_star
        total.append(difference**2 if distance == "l2" else (difference**2 + 1e-6).sqrt() - 1e-3)
    return torch.cat(total).mean().item()


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("distance", ["huber", "l2"])
@pytest.mark.parametrize("schedule", [LCM_GRID, LinearAngles()], ids=["lcm", "linear"])
def test_loss_equals_a_slow_reference(schedule, distance, guidance_scale):
    latent, conditioning, draws = torch.randn(12, 4, 6), pooled_conditioning(12), first_epoch(range(12))
    assert len(set(draws.integers("distillation_index", 5).tolist())) == 5
    objective = ConsistencyObjective(schedule, grid_steps=5, guidance_scale=guidance_scale, distance=distance)
    networks = three_networks()
    losses = objective(networks, latent, conditioning, draws)
    expected = reference_loss(networks, latent, conditioning, draws, schedule.angles(5), guidance_scale, distance)
    assert losses.terms["distillation"].item() == pytest.approx(expected, rel=2e-5)


def test_consistency_function_is_the_identity_at_angle_zero():
    noisy = torch.randn(3, 4, 10)
    schedule = ScaledLinearBetaAngles()
    for denoiser in (
        LinearDenoiser(),
        TimestepDenoiser(WavyNetwork(), schedule, "noise"),
        TimestepDenoiser(WavyNetwork(), schedule, "velocity"),
    ):
        assert torch.equal(ConsistencyFunction(denoiser)(noisy, torch.zeros(3), no_conditioning(3)), noisy)
    per_frame = torch.rand(3, 10).masked_fill(torch.arange(10) < 4, 0)
    clean = ConsistencyFunction(LinearDenoiser())(noisy, per_frame, pooled_conditioning(3))
    assert torch.equal(clean[:, :, :4], noisy[:, :, :4])
    assert not torch.isclose(clean[:, :, 4:], noisy[:, :, 4:]).any(dim=1).all()


def test_exact_networks_have_no_loss():
    latent = torch.full((16, 4, 6), 0.4)
    networks = dict.fromkeys(("student", "teacher", "target"), PointDenoiser(0.4))
    losses = ConsistencyObjective(LinearAngles(), grid_steps=8)(
        networks, latent, no_conditioning(16), first_epoch(range(16))
    )
    assert losses.terms["distillation"].item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(losses.prediction, latent, atol=1e-4, rtol=1e-4)


def test_lowest_step_ends_at_the_teachers_own_clean_latent():
    """With one step in the grid every clip is both pure noise and last: the target network has no say."""
    latent, draws, grid = torch.randn(4, 4, 6), first_epoch(range(4)), LinearAngles()
    networks = {"student": ZeroDenoiser(), "teacher": GaussianDenoiser(0.5), "target": LinearDenoiser()}
    losses = ConsistencyObjective(grid, grid_steps=1, distance="l2")(networks, latent, no_conditioning(4), draws)
    ((less_noisy, lower, _),) = networks["target"].calls
    assert torch.equal(lower, torch.zeros(4))
    noise = draws.normal("diffusion_noise", (4, 6))
    right_angle = torch.full((4,), math.pi / 2)
    teacher_clean = -GaussianDenoiser(0.5)(noise, right_angle, no_conditioning(4))
    torch.testing.assert_close(less_noisy, teacher_clean, atol=1e-6, rtol=1e-6)
    expected = (losses.prediction - teacher_clean).square().mean().item()
    assert losses.terms["distillation"].item() == pytest.approx(expected, abs=1e-8)


def test_noisiest_input_is_pure_noise_and_every_index_is_drawn():
    items, grid = range(64), ScaledLinearBetaAngles(spacing="lcm").angles(4).float()
    networks, latent, draws = three_networks(), torch.randn(64, 4, 6), first_epoch(items)
    objective = ConsistencyObjective(ScaledLinearBetaAngles(spacing="lcm"), grid_steps=4)
    objective(networks, latent, pooled_conditioning(64), draws)
    ((noisy, angle, _),) = networks["student"].calls
    assert set(angle.tolist()) == set(grid[:-1].tolist())
    noisiest, noise = angle == grid[0], draws.normal("diffusion_noise", (4, 6))
    assert torch.equal(noisy[noisiest], noise[noisiest])
    wide = over_latent(angle, latent)
    mixed = wide.cos() * latent + wide.sin() * noise
    torch.testing.assert_close(noisy[~noisiest], mixed[~noisiest])
    assert not torch.isclose(noisy[noisiest], mixed[noisiest], atol=1e-4).all()


def test_only_the_student_gets_gradients():
    networks = three_networks()
    losses = ConsistencyObjective(LCM_GRID, grid_steps=5)(
        networks, torch.randn(6, 4, 6), pooled_conditioning(6), first_epoch(range(6))
    )
    sum(losses.terms.values()).backward()
    assert networks["student"].weight.grad.abs().sum() > 0
    for role in ("teacher", "target"):
        assert all(parameter.grad is None for parameter in networks[role].parameters())
    assert losses.prediction.requires_grad


def test_a_clip_sees_the_same_in_any_batch():
    latent, objective = torch.randn(8, 4, 6), ConsistencyObjective(LCM_GRID, grid_steps=5)

    def seen(rows):
        networks = three_networks()
        objective(networks, latent[rows], no_conditioning(len(rows)), first_epoch(rows))
        return networks["student"].calls[0]

    noisy, angle, _ = seen(list(range(8)))
    for row in range(8):
        alone_noisy, alone_angle, _ = seen([row])
        assert torch.equal(alone_noisy[0], noisy[row])
        assert torch.equal(alone_angle[0], angle[row])


def test_teacher_is_one_call_and_the_others_are_unguided():
    networks, conditioning = three_networks(), pooled_conditioning(6)
    ConsistencyObjective(LCM_GRID, guidance_scale=3.0)(
        networks, torch.randn(6, 4, 6), conditioning, first_epoch(range(6))
    )
    assert {name: [len(call[0]) for call in network.calls] for name, network in networks.items()} == {
        "student": [6],
        "teacher": [12],
        "target": [6],
    }


def test_the_weight_multiplies_the_term():
    terms = [
        ConsistencyObjective(LCM_GRID, grid_steps=5, weight=weight)(
            three_networks(), torch.ones(6, 4, 6), pooled_conditioning(6), first_epoch(range(6))
        ).terms["distillation"]
        for weight in (1.0, 3.0)
    ]
    assert terms[1].item() == pytest.approx(3 * terms[0].item())


def test_where_the_input_is_noise_alone_is_told():
    draws = first_epoch(range(12))
    losses = ConsistencyObjective(LCM_GRID, grid_steps=4)(
        three_networks(), torch.randn(12, 4, 6), pooled_conditioning(12), draws
    )
    assert torch.equal(losses.from_noise, draws.integers("distillation_index", 4) == 0)
    assert losses.from_noise.any()
    assert not losses.from_noise.all()


def test_known_beginnings_are_clean_at_angle_zero_for_all_networks_and_do_not_count():
    latent, conditioning, draws = torch.randn(32, 4, 10), pooled_conditioning(32), first_epoch(range(32))
    networks = three_networks()
    objective = ConsistencyObjective(LinearAngles(), 4, 1.0, "l2", prefix_probability=0.5)
    loss = objective(networks, latent, conditioning, draws).terms["distillation"]
    place, chosen = draws.uniform("known_place"), draws.uniform("known_pattern") < 0.5
    lengths = [int(place[row] * 10) if chosen[row] else 0 for row in range(32)]
    assert min(lengths) == 0 < 5 < max(lengths)
    ((noisy, angle, _),), ((less_noisy, lower, _),) = networks["student"].calls, networks["target"].calls
    total = []
    for row, length in enumerate(lengths):
        assert torch.equal(noisy[row, :, :length], latent[row, :, :length])
        assert torch.equal(less_noisy[row, :, :length], latent[row, :, :length])
        for levels, index in ((angle, 0), (lower, 1)):
            grid = LinearAngles().angles(4)[draws.integers("distillation_index", 4)[row] + index]
            assert (levels[row, :length] == 0).all()
            torch.testing.assert_close(levels[row, length:], grid.float().expand(10 - length))
        ours, theirs = (
            ConsistencyFunction(networks[name])(*call)[row, :, length:]
            for name, call in (("student", (noisy, angle, conditioning)), ("target", (less_noisy, lower, conditioning)))
        )
        total.append((ours - theirs).square().mean())
    assert loss.item() == pytest.approx(torch.stack(total).mean().item(), rel=1e-5)


def test_known_beginnings_need_one_angle_a_frame():
    networks = dict.fromkeys(("student", "teacher", "target"), OneAngleDenoiser())
    objective = ConsistencyObjective(LinearAngles(), 4, prefix_probability=0.5)
    with pytest.raises(ValueError, match="per_frame_angles"):
        objective(networks, torch.randn(2, 4, 6), no_conditioning(2), first_epoch(range(2)))


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match=r"prefix_probability is 1\.5"):
        ConsistencyObjective(LinearAngles(), prefix_probability=1.5)
    with pytest.raises(ValueError, match="must end at 0"):
        ConsistencyObjective(ScaledLinearBetaAngles(spacing="leading", final_zero=False))
    with pytest.raises(ValueError, match="huber_c"):
        ConsistencyObjective(LinearAngles(), huber_c=0.0)
