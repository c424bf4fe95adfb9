"""The adversarial base: who moves when and on what, counted, accumulated, resumed."""

import copy

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from test_stage import Tones, batch
from torch import nn
from toys import SquaredError, ToyAutoencoder, ToyDiscriminator

from melody_cm.losses import LeastSquaresLoss
from melody_cm.training import Adversary, AutoencoderTraining, Optimization
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint


def stage(start=0.0, clip=1e9, accumulate=1) -> AutoencoderTraining:
    torch.manual_seed(3)
    adversary = Adversary(ToyDiscriminator(), LeastSquaresLoss(), Optimization(learning_rate=1e-2), start)
    return AutoencoderTraining(
        ToyAutoencoder(), SquaredError(), Optimization(learning_rate=1e-2, warmup_steps=3, final_ratio=0.1),
        adversary=adversary, gradient_clip=clip, accumulate=accumulate, sample_rate=8000,
    )  # fmt: skip


def fit(module, tmp_path, size=4, steps=6, callbacks=(), resume=None):
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, default_root_dir=tmp_path, logger=False, callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=Tones(size), ckpt_path=resume)
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


def test_both_move_in_turn_as_a_loop_by_hand_says(tmp_path):
    module = stage(clip=0.05)
    networks, adversary = copy.deepcopy(module.trained), copy.deepcopy(module.adversary)
    fit(module, tmp_path, steps=3)
    generator = torch.optim.AdamW(networks.parameters(), 1e-2, (0.9, 0.99), weight_decay=0)
    critic = torch.optim.AdamW(adversary.discriminator.parameters(), 1e-2, (0.9, 0.99), weight_decay=0)
    for optimizer, network in ((generator, networks), (critic, adversary.discriminator)):
        optimizer.param_groups.clear()
        for matrix, decay in ((True, 0.01), (False, 0.0)):
            chosen = [p for p in network.parameters() if (p.ndim > 1) is matrix]
            optimizer.add_param_group({"params": chosen, "weight_decay": decay})
    for step in range(3):
        clips = batch(step, [0, 1, 2, 3])
        result = networks["autoencoder"].reconstruct(clips.waveform, clips.draws(0))
        real, fake = (adversary.discriminator(x)[0].logits for x in (clips.waveform, result.prediction.detach()))
        critic.zero_grad()
        ((real - 1).square().mean() + fake.square().mean()).backward()
        nn.utils.clip_grad_norm_(adversary.discriminator.parameters(), 0.05)
        critic.step()
        real, fake = (adversary.discriminator(x)[0] for x in (clips.waveform, result.prediction))
        loss = (result.prediction - clips.waveform).square().mean() + 5e-3 * result.kl.mean()
        matching = (fake.feature_maps[0] - real.feature_maps[0].detach()).abs().mean()
        loss = loss + (fake.logits - 1).square().mean() + 20 * matching
        generator.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 0.05)
        for group in generator.param_groups:
            group["lr"] = 1e-2 * (step + 1) / 3
        generator.step()
    torch.testing.assert_close(weights(module.trained), weights(networks), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(module.adversary), weights(adversary), rtol=1e-5, atol=1e-6)


def test_steps_are_counted_once_with_and_without_the_adversary(tmp_path):
    module = stage(start=0.5)
    trainer = fit(module, tmp_path, steps=6)
    assert trainer.global_step == int(module.steps_taken) == int(module.batches_seen) == 6


def test_the_adversary_waits_for_its_start(tmp_path):
    moved = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            moved.append(weights(pl_module.adversary))

    module = stage(start=0.5)
    before = weights(module.adversary)
    fit(module, tmp_path, steps=6, callbacks=[Watch()])
    assert [torch.equal(before, now) for now in moved] == [True, True, True, False, False, False]


def test_before_its_start_the_adversary_changes_nothing(tmp_path):
    opposed, alone = stage(start=0.9), stage(start=0.9)
    alone.adversary = None
    for module in (opposed, alone):
        fit(module, tmp_path, steps=5)
    assert torch.equal(weights(opposed.trained), weights(alone.trained))


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    """Gradients too, which AdamW would forgive a wrong factor."""
    whole, parts = stage(), stage(accumulate=2)
    for module, size in ((whole, 4), (parts, 2)):
        module.norms = []
        module.clip_gradients = lambda optimizer, module=module, **_: module.norms.append(
            [float(p.grad.norm()) for group in optimizer.param_groups for p in group["params"]]
        )
        fit(module, tmp_path, size=size)
    assert (int(parts.steps_taken), int(parts.batches_seen)) == (6, 12)
    for ours, theirs in zip(parts.norms, whole.norms, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    for part in ("trained", "averaged", "adversary"):
        torch.testing.assert_close(weights(getattr(whole, part)), weights(getattr(parts, part)), rtol=1e-5, atol=1e-6)


def test_the_discriminator_leaves_the_generator_without_gradient_and_the_other_way_round():
    module = stage()
    generated = module.generate(module.trained, batch(0, [0, 1]))
    torch.stack(list(module.adversary.discriminator_terms(generated).values())).sum().backward(retain_graph=True)
    assert all(p.grad is None for p in module.trained.parameters())
    assert all(p.grad is not None for p in module.adversary.discriminator.parameters())
    module.zero_grad()
    torch.stack(list(module.adversary.generator_terms(generated).values())).sum().backward()
    assert all(p.grad is None for p in module.adversary.parameters())
    assert any(p.grad is not None and p.grad.any() for p in module.trained.parameters())
    assert all(p.requires_grad for p in module.adversary.parameters())


class Stop(Callback):
    """Raise the flag that a signal raises, after some micro-batches."""

    def __init__(self, checkpoint, after):
        self.checkpoint, self.after = checkpoint, after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.checkpoint.signalled |= int(pl_module.batches_seen) >= self.after


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7])
def test_a_stopped_training_goes_on_bit_equal(tmp_path, after):
    """At steps before and after the adversary joins, and between the micro-batches of a step."""
    undisturbed = stage(start=0.4, accumulate=2)
    fit(undisturbed, tmp_path, size=2, steps=5)
    path = tmp_path / "last.ckpt"
    stopped, last = stage(start=0.4, accumulate=2), LastCheckpoint(path, every_n_steps=100)
    fit(stopped, tmp_path, size=2, steps=5, callbacks=[Stop(last, after), last])
    assert last.interrupted
    assert int(stopped.steps_taken) == (after + 2) // 2
    resumed = stage(start=0.4, accumulate=2)
    seen = int(torch.load(path, weights_only=True)["state_dict"]["batches_seen"])
    rest = Tones(2)
    batches = list(Tones(2).train_dataloader())[seen:]
    rest.train_dataloader = lambda: torch.utils.data.DataLoader(batches, batch_size=None)
    trainer = Trainer(
        accelerator="cpu", max_steps=5, logger=False, plugins=[AtomicCheckpointIO()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(resumed, datamodule=rest, ckpt_path=path)
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"start is 1\.0"):
        stage(start=1.0)
    with pytest.raises(ValueError, match="accumulate is 0"):
        stage(accumulate=0)
