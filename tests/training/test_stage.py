import json
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from toys import SquaredError, ToyAutoencoder

from melody_cm.batch import MusicBatch
from melody_cm.training import AutoencoderTraining, Optimization, Stage
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint, LossTrace, remedy


def batch(epoch: int, items: list[int]) -> MusicBatch:
    waveform = torch.stack([torch.sin(torch.arange(64.0) * (0.1 + 0.02 * item)) for item in items])[:, None]
    keys = torch.tensor(items), torch.full((len(items),), epoch)
    return MusicBatch(keys[0], keys[1], waveform, waveform[:, 0] != 0, ["a tone"] * len(items))


class Tones(LightningDataModule):
    """Always the same four clips, in micro-batches of `size`."""

    def __init__(self, size: int, sample_rate: int = 8000):
        super().__init__()
        self.size = size
        self.sample_rate = sample_rate

    def train_dataloader(self):
        batches = [batch(epoch, list(range(s, s + self.size))) for epoch in range(50) for s in range(0, 4, self.size)]
        return DataLoader(batches, batch_size=None)

    def batches(self, split, batch_size):
        yield batch(0, [0, 1, 2, 3])


def stage(**kwargs) -> AutoencoderTraining:
    torch.manual_seed(3)
    return AutoencoderTraining(
        ToyAutoencoder(), SquaredError(), Optimization(learning_rate=1e-2), **{"sample_rate": 8000, **kwargs}
    )


class Automatic(Stage):
    """The same losses under Lightning's own optimization."""

    def __init__(self):
        torch.manual_seed(3)
        super().__init__({"autoencoder": ToyAutoencoder()}, Optimization(learning_rate=1e-2), 0.999, 8000, 0)

    def losses(self, networks, batch):
        result = networks["autoencoder"].reconstruct(batch.waveform, batch.draws(self.seed))
        return SquaredError()(result.prediction, result.target) | {"kl": 5e-3 * result.kl.mean()}


def fit(module, tmp_path, size=4, accumulate=1, steps=6, callbacks=()):
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, accumulate_grad_batches=accumulate, default_root_dir=tmp_path, logger=False,
        callbacks=list(callbacks), plugins=[AtomicCheckpointIO()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=Tones(size))
    return trainer


@pytest.mark.parametrize("manual", [True, False])
def test_accumulated_micro_batches_equal_one_large_batch_and_count_once(tmp_path, manual):
    whole, parts = Automatic(), Automatic()
    if manual:
        whole, parts = stage(gradient_clip=1e9), stage(gradient_clip=1e9, accumulate=2)
    fit(whole, tmp_path)
    fit(parts, tmp_path, size=2, accumulate=1 if manual else 2)
    assert int(whole.steps_taken) == int(parts.steps_taken) == 6
    assert int(parts.batches_seen) == 12
    for name, value in whole.state_dict().items():
        if name != "batches_seen":
            torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_the_average_follows_by_the_formula_once_a_step(tmp_path):
    module = stage(ema_decay=0.5)
    weights = [module.trained["autoencoder"].decoder.bias.detach().clone()]
    expected = weights[0].clone()

    class Watch(LossTrace):
        def on_train_batch_end(self, trainer, pl_module, *args):
            weights.append(pl_module.trained["autoencoder"].decoder.bias.detach().clone())

    fit(module, tmp_path, callbacks=[Watch(1)])
    for step, weight in enumerate(weights[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(module.averaged["autoencoder"].decoder.bias, expected)
    assert not torch.equal(weights[-1], weights[0])


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path):
    trainer = fit(stage(), tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = AutoencoderTraining(ToyAutoencoder(latent_channels=3), SquaredError(), Optimization(), sample_rate=8000)
    with pytest.raises(ValueError, match=r"the checkpoint holds another network: .*expected"):
        Trainer(accelerator="cpu", max_steps=9, logger=False, plugins=[AtomicCheckpointIO()]).fit(
            other, datamodule=Tones(4), ckpt_path=tmp_path / "last.ckpt"
        )


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"last.ckpt is not a whole checkpoint.*--retrain"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)

    def disk_full(data, aside):
        aside.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="no space left"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(2)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_data_at_another_rate_is_refused_with_both(tmp_path):
    with pytest.raises(ValueError, match="works at 8000 Hz but the data has 16000 Hz"):
        stage(sample_rate=16000)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(500)}}, path)
    whole = path.read_bytes()
    place = whole.index(torch.ones(500).numpy().tobytes())
    for byte in range(place, place + 2000, 97):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        with pytest.raises(ValueError, match=r"last.ckpt is not a whole checkpoint .*checksum"):
            AtomicCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("key", ["state_dict", "optimizer_states"])
def test_a_state_that_is_not_finite_is_neither_written_nor_read(tmp_path, key):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({key: {"good": torch.ones(2)}}, path)
    bad = {key: {"a": [{"b": torch.tensor([1.0, float("nan")])}]}}
    with pytest.raises(ValueError, match=rf"{key}\.a\.0\.b is not finite"):
        AtomicCheckpointIO().save_checkpoint(bad, path)
    assert torch.load(path, weights_only=True)[key]["good"].tolist() == [1, 1]
    torch.save(bad, path)
    with pytest.raises(ValueError, match=rf"{key}\.a\.0\.b is not finite.*--retrain"):
        AtomicCheckpointIO().load_checkpoint(path)


class Spoiling:
    """A part of the losses that is not finite at some steps."""

    def __init__(self, steps: set[int], value: float):
        self.steps, self.value, self.calls = steps, value, 0

    def __call__(self, parameter):
        self.calls += 1
        factor = self.value if self.calls in self.steps else 0.0
        return (parameter * factor).sum()


def spoiling(manual, steps, value=float("nan")):
    """A stage whose loss, or only its gradient (`value` infinite at a weight of 0), is spoilt at these steps."""
    module = stage(gradient_clip=1.0) if manual else Automatic()
    part, inner = Spoiling(steps, value), module.losses
    if manual:
        generate = module.generate
        module.generate = lambda networks, batch: (made := generate(networks, batch))._replace(
            terms=made.terms | {"odd": part(networks["autoencoder"].decoder.bias)}
        )
    else:
        module.losses = lambda networks, batch: (
            inner(networks, batch) | {"odd": part(networks["autoencoder"].decoder.bias)}
        )
    return module


@pytest.mark.parametrize("manual", [True, False])
def test_a_step_with_a_spoilt_loss_changes_no_weight_and_is_written_down(tmp_path, manual):
    module, weights = spoiling(manual, {3}), []

    class Watch(LossTrace):
        def on_train_batch_end(self, trainer, pl_module, *args):
            weights.append(torch.cat([p.detach().flatten() for p in pl_module.trained.parameters()]))

    fit(module, tmp_path, callbacks=[Watch(1)])
    same = [torch.equal(a, b) for a, b in pairwise(weights)]
    assert same == [False, True, False, False, False]
    assert int(module.steps_taken) == 6
    assert module.skipped.count == 1
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert lines == [{"step": 3, "terms": ["odd"], "clips": ["item 0", "item 1", "item 2", "item 3"]}]


def test_a_spoilt_gradient_of_a_good_loss_is_left_out_too(tmp_path):
    module = Automatic()

    class Rooted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum() * 0

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf") * torch.ones(1)

    inner = module.losses
    module.losses = lambda networks, batch: (
        inner(networks, batch) | {"odd": Rooted.apply(networks["autoencoder"].decoder.bias)}
    )
    with pytest.raises(ValueError, match=r"6 steps in a row, up to step 6, .* the gradient was not finite"):
        fit(module, tmp_path)
    assert bool(torch.cat([p.flatten() for p in module.trained.parameters()]).isfinite().all())


@pytest.mark.parametrize("manual", [True, False])
def test_ten_spoilt_steps_in_a_row_end_the_training_and_nine_do_not(tmp_path, manual):
    fit(spoiling(manual, set(range(2, 11))), tmp_path, steps=12)
    last = LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=1)
    module = spoiling(manual, set(range(3, 99)))
    with pytest.raises(ValueError, match=r"10 steps in a row, up to step 12, .* term odd was not finite.*item 0"):
        fit(module, tmp_path, steps=40, callbacks=[last])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in saved["state_dict"].values())


def test_a_step_that_overflows_the_weights_is_not_saved_and_the_state_before_stays(tmp_path):
    class Overflow(LossTrace):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if pl_module.steps_done == 4:
                with torch.no_grad():
                    pl_module.trained["autoencoder"].decoder.bias.fill_(float("inf"))

    callbacks = [Overflow(1), LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=1)]
    with pytest.raises(ValueError, match=r"decoder.bias is not finite after step 4, .*learning_rate"):
        fit(Automatic(), tmp_path, callbacks=callbacks)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


def test_spoilt_weights_are_named_as_the_cause_of_spoilt_losses(tmp_path):
    module = Automatic()
    with torch.no_grad():
        module.trained["autoencoder"].decoder.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"because the weight autoencoder.decoder.bias is not finite"):
        fit(module, tmp_path)


def test_sixteen_bits_are_named_before_the_learning_rate(tmp_path):
    trainer = Trainer(accelerator="cpu", precision="16-true", logger=False, default_root_dir=tmp_path)
    assert "learning_rate" not in remedy(trainer)
    assert "bf16-mixed or 32-true" in remedy(trainer)


def test_the_time_interrupts_a_training_and_it_goes_on(tmp_path):
    last = LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=100, max_seconds=0.0)
    fit(stage(), tmp_path, callbacks=[last])
    assert (last.interrupted, last.signalled, last.saved_steps) == (True, False, 1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1


def test_the_last_step_is_not_saved_before_the_end_of_training_completed_it(tmp_path):
    """Else a run killed between the two would be resumed without the calibration that `on_train_end` does."""
    fit(stage(), tmp_path, steps=4, callbacks=[LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=1)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 3


class Calibrated(ToyAutoencoder):
    """Its latents are scaled when training ends, and clipped."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def posterior(self, waveform):
        mean, std = super().posterior(waveform)
        return mean * self.scale, std * self.scale

    def clamp(self, latent):
        return latent.clamp(-1, 1)

    def calibrate(self, waveform):
        self.scale.fill_(3.0)


def test_the_latent_that_is_reported_is_the_one_that_is_exported(tmp_path):
    torch.manual_seed(3)
    module = AutoencoderTraining(Calibrated(), SquaredError(), Optimization(), sample_rate=8000)
    fit(module, tmp_path, steps=2)
    clips = batch(0, [0, 1, 2, 3])
    mean, std = module.exports["autoencoder"].posterior(clips.waveform)
    assert module.exports["autoencoder"].scale == 3
    drawn = mean + std * clips.draws(0).normal("posterior", mean.shape[1:], mean.device)
    assert module.report == {
        "val/latent_mean": pytest.approx(float(drawn.clamp(-1, 1).mean())),
        "val/latent_std": pytest.approx(float(drawn.clamp(-1, 1).std())),
        "val/latent_trimmed": pytest.approx(float((drawn.abs() > 1).float().mean())),
    }
    assert module.report["val/latent_trimmed"] > 0.5
