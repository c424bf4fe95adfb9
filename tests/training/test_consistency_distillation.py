"""Adversarial distillation: what starts equal, who moves when, what the student hears of its adversary, resume."""

import copy
from contextlib import nullcontext

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from test_learning import clips, latent_diffusion, overfit
from toys import ToyAutoencoder

from melody_cm.batch import MusicBatch
from melody_cm.denoisers import UNet2D
from melody_cm.diffusion import (
    ConsistencyObjective,
    ConsistencySampler,
    DDIMSampler,
    GridAngles,
    Guided,
    LinearAngles,
    ScaledLinearBetaAngles,
    TimestepDenoiser,
)
from melody_cm.discriminators import FeatureDiscriminator
from melody_cm.interfaces import Conditioner, Conditioning, Denoiser, FeatureNetwork, Known
from melody_cm.losses import HingeLoss
from melody_cm.training import Adversary, ConsistencyDistillation, Optimization
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint

RATE, SAMPLES = 8000, 256


class ToyConditioner(Conditioner):
    """One vector a clip, from its index."""

    def describe(self, batch):
        return torch.stack([batch.item, batch.item**2, torch.ones_like(batch.item)], dim=1).float()

    def embed(self, source):
        return Conditioning(None, source, None, torch.zeros(len(source), dtype=torch.bool))


class ToyTeacher(Denoiser, FeatureNetwork):
    """A layer that hears angle and condition, and one after it."""

    per_frame_angles = True

    def __init__(self):
        super().__init__()
        self.feature_channels = [8]
        self.first, self.told = torch.nn.Conv1d(3, 8, 3, padding=1), torch.nn.Linear(3, 8)
        self.last = torch.nn.Conv1d(8, 2, 1)

    def features(self, noisy_latent, angle, conditioning):
        angle = angle if angle.ndim == 2 else angle[:, None].expand(-1, noisy_latent.shape[2])
        told = torch.where(conditioning.dropped[:, None], 0.0, self.told(conditioning.pooled))
        return [(self.first(torch.cat([noisy_latent, angle[:, None]], dim=1)) + told[..., None]).tanh()]

    def forward(self, noisy_latent, angle, conditioning):
        return self.last(self.features(noisy_latent, angle, conditioning)[0])


def batch(step: int, items) -> MusicBatch:
    items = torch.tensor(items)
    waveform = torch.sin(torch.arange(float(SAMPLES)) * (0.1 + 0.02 * items[:, None]))[:, None]
    epoch = torch.full((len(items),), step)
    return MusicBatch(items, epoch, waveform, torch.ones(len(items), SAMPLES, dtype=torch.bool), ["x"] * len(items))


def adversary(teacher, warmup=0.0, ramp=0.0, weight=1.0) -> Adversary:
    judge = FeatureDiscriminator(teacher, LinearAngles(), condition_width=3, width=8, projection_width=4)
    loss = HingeLoss(weight, r1_weight=1e-3)
    return Adversary(judge, loss, Optimization(learning_rate=1e-2), start=0.0, warmup=warmup, ramp=ramp)


def stage(against=adversary, accumulate=1, **kwargs) -> ConsistencyDistillation:
    torch.manual_seed(3)
    teacher = ToyTeacher().requires_grad_(False).eval()
    objective = ConsistencyObjective(LinearAngles(), grid_steps=5, guidance_scale=2.0)
    return ConsistencyDistillation(
        ToyAutoencoder().requires_grad_(False), ToyConditioner(), teacher, objective, GridAngles(LinearAngles(), 5),
        ConsistencySampler(), Optimization(learning_rate=1e-2), 2, against(teacher) if against else None,
        gradient_clip=1e9, accumulate=accumulate, sample_rate=RATE, **kwargs,
    )  # fmt: skip


def micro_batches(size: int, steps: int) -> list[MusicBatch]:
    return [batch(step, list(range(s, s + size))) for step in range(steps) for s in range(0, 4, size)]


def fit(module, batches, steps=6, callbacks=(), resume=None):
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, callbacks=list(callbacks), plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=resume)
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


class Watch(Callback):
    """Notes something after every micro-batch."""

    def __init__(self, note):
        self.note, self.notes = note, []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.notes.append(self.note(pl_module))


def test_student_target_and_average_start_as_the_teacher_and_nothing_else_is_in_a_checkpoint():
    module = stage()
    expected = module.teacher.state_dict()
    for network in (module.student, module.target, module.averaged["denoiser"]):
        assert network.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    latent, angle = torch.randn(2, 2, 16), torch.rand(2)
    conditioning = module.conditioner.embed(torch.randn(2, 3))
    outputs = [each(latent, angle, conditioning) for each in (module.teacher, module.student, module.target)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_target_follows_once_a_step_of_the_student(accumulate):
    module = stage(accumulate=accumulate, target_decay=0.9)
    before = weights(module.target)
    watch = Watch(lambda m: (weights(m.target), weights(m.student)))
    fit(module, micro_batches(4 // accumulate, 3), steps=3, callbacks=[watch])
    assert len(watch.notes) == 3 * accumulate
    for target, student in watch.notes[accumulate - 1 :: accumulate]:
        torch.testing.assert_close(target, 0.9 * before + 0.1 * student)
        before = target


def test_micro_batches_equal_one_large_batch():
    """In gradients: a bias before a norm has next to none, of which AdamW makes as much as of any."""
    whole, parts = stage(), stage(accumulate=2)
    for module, size in ((whole, 4), (parts, 2)):
        # Power iterations of the spectral norm run once a pass: after enough of them their number does not matter.
        for _ in range(200):
            module.adversary.discriminator.heads[0](torch.randn(1, 8, 16), torch.randn(1, 11))
        module.norms = []
        module.clip_gradients = lambda optimizer, module=module, **_: module.norms.append(
            [float(p.grad.norm()) for group in optimizer.param_groups for p in group["params"]]
        )
        fit(module, micro_batches(size, 4), steps=4)
    assert len(whole.norms) == len(parts.norms) == 8
    for ours, theirs in zip(parts.norms, whole.norms, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3)


def test_frozen_parts_never_move_and_never_learn():
    module = stage()
    parts = (module.teacher, module.autoencoder, module.adversary.discriminator.features)
    before = [weights(part) for part in parts]
    fit(module, micro_batches(4, 3), steps=3)
    for part, old in zip(parts, before, strict=True):
        assert torch.equal(weights(part), old)
        assert all(not p.requires_grad and p.grad is None for p in part.parameters())


def test_gradients_of_either_side_stay_on_its_side():
    module = stage()
    generated = module.generate(module.trained, batch(0, [0, 1, 2]))
    sum(module.adversary.discriminator_terms(generated).values()).backward(retain_graph=True)
    assert all(p.grad is None for p in module.student.parameters())
    module.zero_grad()
    sum(module.adversary.generator_terms(generated).values()).backward()
    assert all(p.grad is None for p in module.adversary.parameters())
    assert all(p.grad.abs().sum() > 0 for p in module.student.parameters())
    assert all(p.requires_grad for p in module.adversary.discriminator.heads.parameters())
    assert not any(p.requires_grad for p in module.adversary.discriminator.features.parameters())


def test_judged_are_the_students_clean_latents_beside_the_real_ones():
    module, clips = stage(), batch(0, [0, 1, 2, 3])
    generated = module.generate(module.trained, clips)
    posterior, _ = module.autoencoder.posterior(clips.waveform)
    assert generated.real.shape == generated.fake.shape == posterior.shape
    assert generated.context.reference is generated.real
    index = clips.draws(0).integers("distillation_index", 5)
    assert torch.equal(generated.context.from_noise, index == 0)
    assert torch.equal(generated.context.conditioning.pooled, module.conditioner.describe(clips))


def test_the_student_hears_its_adversary_after_the_warm_up_and_then_more_and_more():
    against = adversary(ToyTeacher(), warmup=0.2, ramp=0.4)
    expected = {0.0: 0, 0.19: 0, 0.2: 0, 0.3: 0.25, 0.5: 0.75, 0.6: 1, 0.9: 1}
    for progress, weight in expected.items():
        assert against.weight(progress) == pytest.approx(weight)
    assert [adversary(ToyTeacher(), warmup=0.5).weight(x) for x in (0.4, 0.5)] == [0, 1]
    generated = stage().generate(stage().trained, batch(0, [0, 1]))
    against.eval()
    full, quarter = (against.generator_terms(generated, weight)["adversarial"] for weight in (1.0, 0.25))
    assert quarter.item() == pytest.approx(full.item() / 4)


def test_during_the_warm_up_the_adversary_learns_and_the_student_is_as_without_it():
    opposed, alone = stage(lambda teacher: adversary(teacher, warmup=0.5)), stage(against=None)
    watch = Watch(lambda m: weights(m.student))
    lone = Watch(lambda m: weights(m.student))
    before = weights(opposed.adversary.discriminator.heads)
    fit(opposed, micro_batches(4, 6), callbacks=[watch])
    fit(alone, micro_batches(4, 6), callbacks=[lone])
    same = [torch.equal(ours, theirs) for ours, theirs in zip(watch.notes, lone.notes, strict=True)]
    assert same == [True, True, True, False, False, False]
    assert not torch.equal(before, weights(opposed.adversary.discriminator.heads))


def test_the_gradient_ratio_is_that_of_two_separate_backward_passes():
    module = stage(lambda teacher: adversary(teacher, weight=0.3))
    networks, against = copy.deepcopy(module.trained), copy.deepcopy(module.adversary)
    ratios = Watch(lambda m: m.trainer.callback_metrics.get("train/adversarial_gradient_ratio"))
    fit(module, micro_batches(4, 2), steps=2, callbacks=[ratios])
    assert ratios.notes[0] is None  # Logged every second step.
    again = stage(lambda teacher: adversary(teacher, weight=0.3))
    again.trained.load_state_dict(networks.state_dict())
    again.adversary.load_state_dict(against.state_dict())
    seen = Seen(again)
    again._log_gradient_ratio = seen
    fit(again, micro_batches(4, 2), steps=2)
    assert float(ratios.notes[1]) == pytest.approx(seen.ratios[1], rel=1e-4)


class Seen:
    """The same ratio from gradients that `backward` leaves in the parameters."""

    def __init__(self, module):
        self.module, self.ratios = module, []

    def __call__(self, against, rest):
        norms = []
        for terms in (against, rest):
            sum(terms.values()).backward(retain_graph=True)
            norms.append(sum(float(p.grad.square().sum()) for p in self.module.student.parameters()) ** 0.5)
            self.module.trained.zero_grad()
        self.ratios.append(norms[0] / norms[1])


class Stop(Callback):
    """Raise the flag that a signal raises, after some micro-batches."""

    def __init__(self, checkpoint, after):
        self.checkpoint, self.after = checkpoint, after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.checkpoint.signalled |= int(pl_module.batches_seen) >= self.after


@pytest.mark.parametrize(("after", "opposed"), [(2, True), (5, True), (4, False)])
def test_a_stopped_distillation_goes_on_bit_equal(tmp_path, after, opposed):
    def make():
        return stage((lambda teacher: adversary(teacher, warmup=0.3, ramp=0.3)) if opposed else None, accumulate=2)

    undisturbed, batches = make(), micro_batches(2, 50)
    fit(undisturbed, batches, steps=5)
    path = tmp_path / "last.ckpt"
    stopped, last = make(), LastCheckpoint(path, every_n_steps=100)
    fit(stopped, batches, steps=5, callbacks=[Stop(last, after), last])
    assert last.interrupted
    state = torch.load(path, weights_only=True)["state_dict"]
    resumed = make()
    fit(resumed, batches[int(state["batches_seen"]) :], steps=5, resume=path)
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_validation_needs_no_adversary():
    module = stage()
    terms = module.losses(module.averaged, batch(-1, [0, 1, 2, 3]))
    assert set(terms) == {"distillation"}
    assert torch.equal(terms["distillation"], module.losses(module.averaged, batch(-1, [0, 1, 2, 3]))["distillation"])


@pytest.mark.slow
def test_melody_distils_with_the_same_class_and_keeps_known_frames():
    """One step of the student is nearer to the teacher's 20 than one of the teacher is; continuation is bit-exact."""
    teaching = latent_diffusion("melody")
    overfit(teaching, 100, 5e-3)
    teacher, conditioner = teaching.averaged["denoiser"], teaching.averaged["conditioner"]
    objective = ConsistencyObjective(LinearAngles(), grid_steps=5, guidance_scale=1.5, prefix_probability=0.25)
    module = ConsistencyDistillation(
        teaching.autoencoder, conditioner, teacher, objective, GridAngles(LinearAngles(), 5), ConsistencySampler(),
        Optimization(), num_steps=2, ema_decay=0.9, sample_rate=RATE,
    )  # fmt: skip
    overfit(module, 100, 3e-3)
    latent, conditioning, student = module.denoising(clips())
    noise = torch.randn(latent.shape)
    best = DDIMSampler().sample(Guided(teacher, 1.5), noise, conditioning, LinearAngles().angles(20), [])
    sampled = [
        DDIMSampler().sample(each, noise, conditioning, LinearAngles().angles(1), []) for each in (student, teacher)
    ]
    ours, theirs = (float((one - best).square().mean()) for one in sampled)
    assert ours < 0.8 * theirs
    known = Known(latent, (torch.arange(latent.shape[2]) < 100).expand(len(latent), -1))
    generators = [torch.Generator().manual_seed(row) for row in range(len(latent))]
    angles = module.schedule.angles(3)
    made = module.sampler.sample(student, noise, conditioning, angles, generators, known)
    assert torch.equal(made[..., :100], latent[..., :100])
    assert not torch.isclose(made[..., 100:], latent[..., 100:]).all()
    assert made.isfinite().all()


def test_what_does_not_fit_is_refused():
    for keys in ({"warmup": -0.1}, {"warmup": 0.6, "ramp": 0.4}, {"ramp": 1.0}):
        with pytest.raises(ValueError, match="shares of the steps"):
            adversary(ToyTeacher(), **keys)
    teacher = ToyTeacher()
    arguments = (ToyAutoencoder(), ToyConditioner(), teacher, ConsistencyObjective(LinearAngles(), grid_steps=5))
    with pytest.raises(ValueError, match="not on the grid of 5 steps"):
        ConsistencyDistillation(
            *arguments, GridAngles(LinearAngles(), 10), ConsistencySampler(), Optimization(), 4, sample_rate=RATE
        )


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
def test_a_grid_that_a_noise_predicting_teacher_refuses_is_refused_at_once(zero_terminal_snr):
    """Few batches draw the one angle of the grid that is beyond the teacher's last."""
    body = UNet2D(2, 3, channels=[16, 32], layers_per_block=1, attention_levels=[1], head_width=16)
    teacher = TimestepDenoiser(body, ScaledLinearBetaAngles(), "noise")
    schedule = ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=zero_terminal_snr)
    arguments = (ToyAutoencoder(), ToyConditioner(), teacher, ConsistencyObjective(schedule), GridAngles(schedule))

    refused = pytest.raises(ValueError, match=r"angle 1\.5708 is beyond 1\.5589")
    with refused if zero_terminal_snr else nullcontext():
        ConsistencyDistillation(*arguments, ConsistencySampler(), Optimization(), sample_rate=RATE)
