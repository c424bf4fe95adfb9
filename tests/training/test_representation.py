import math
import sys

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from melody_cm.batch import MusicBatch
from melody_cm.encoders import MaskedPrediction, Wav2Vec2ConformerEncoder
from melody_cm.training import Optimization, RepresentationLearning
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint

RATE, SAMPLES = 8000, 8000

NEW_TRANSFORMERS = sys.version_info >= (3, 11)  # Python 3.10 has no newer one than 5.20.


def clips(epoch: int, items: list[int]) -> MusicBatch:
    """Tunes of four notes a second, another one for each item, the same in every epoch."""
    t = torch.arange(SAMPLES) / RATE
    pitches = [torch.randint(12, (4,), generator=torch.Generator().manual_seed(item)) for item in items]
    hertz = 220 * 2 ** (torch.stack(pitches).repeat_interleave(RATE // 4, dim=1) / 12)
    waveform = (0.3 * torch.sin(2 * torch.pi * hertz * t))[:, None]
    mask = torch.ones(len(items), SAMPLES, dtype=torch.bool)
    return MusicBatch(torch.tensor(items), torch.full((len(items),), epoch), waveform, mask, ["a tune"] * len(items))


def stage(**arguments) -> RepresentationLearning:
    torch.manual_seed(3)
    encoder = Wav2Vec2ConformerEncoder(RATE, 25.0, 16, 2, 2, 32, conv_width=16, depthwise_kernel=5)
    heads = MaskedPrediction(16, 16, entries=8, code_width=8, width=8)
    defaults = {
        "num_negatives": 5, "mask_span": 3, "gumbel_decay": 0.98, "ema_decay": 0.9, "sample_rate": RATE,
        "feature_penalty": 0.0, "feature_gradient_scale": 1.0,
    }  # fmt: skip
    return RepresentationLearning(encoder, heads, Optimization(learning_rate=3e-3), **{**defaults, **arguments})


def test_it_learns_to_tell_the_hidden_frames():
    module = stage()
    optimizer = torch.optim.AdamW(module.trained.parameters(), 3e-3)
    for step in range(60):
        loss = sum(module.losses(module.trained, clips(step, list(range(8)))).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.steps_taken += 1
        module.after_step()
    module.eval()
    found, _ = module._predict(module.averaged.eval(), clips(-1, list(range(8))))
    share = 0.75 if NEW_TRANSFORMERS else 0.85  # The older one begins with other weights.
    assert float(found.contrastive) < share * math.log(6)  # By chance: 1 of 6.
    assert float(found.accuracy) > 0.5
    assert float(found.perplexity) > 6


def test_large_features_of_the_convolutions_cost():
    module, batch = stage(feature_penalty=3.0).eval(), clips(0, [0, 1])
    encoder = module.trained["semantic_encoder"]
    extracted = encoder.body.feature_extractor(encoder._padded(batch.waveform))
    assert float(module.losses(module.trained, batch)["features"]) == pytest.approx(3 * float((extracted**2).mean()))


def test_all_noise_is_keyed_by_clip():
    module = stage().train()
    state = torch.get_rng_state()
    first = module.losses(module.trained, clips(2, [5, 1]))
    if NEW_TRANSFORMERS:  # The older one draws a number and does not use it.
        assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    torch.manual_seed(99)
    again = module.losses(module.trained, clips(2, [5, 1]))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(module.losses(module.trained, clips(3, [5, 1]))["contrastive"], first["contrastive"])


def test_a_clip_has_its_own_draws_whatever_is_beside_it():
    module = stage(diversity_weight=0.0)
    module.train()
    module.trained.eval()  # Batch normalization alone looks at the neighbours.
    with torch.no_grad():
        both, _ = module._predict(module.trained, clips(0, [4, 7]))
        alone = [module._predict(module.trained, clips(0, [item]))[0] for item in (4, 7)]
    masked = [float(draws_of(item).sum()) for item in (4, 7)]
    expected = sum(count * float(each.contrastive) for count, each in zip(masked, alone, strict=True)) / sum(masked)
    assert float(both.contrastive) == pytest.approx(expected, rel=1e-5)


def draws_of(item: int) -> torch.Tensor:
    """The hidden frames of an item, by a slow loop."""
    starts = clips(0, [item]).draws(0).uniform("mask", (25,))[0].tolist()
    hidden = torch.zeros(25)
    for begin in sorted(range(25), key=lambda frame: starts[frame])[:2]:
        hidden[begin : begin + 3] = 1
    return hidden


def test_padding_is_neither_hidden_nor_a_negative():
    module = stage(mask_share=0.9).eval()
    short, other = clips(-1, [1]), clips(-1, [1])
    for batch in (short, other):
        batch.frame_mask[:, SAMPLES // 2 :] = False
    seen = {}
    heads = module.averaged["heads"]
    heads.register_forward_pre_hook(lambda _, inputs: seen.update(mask=inputs[2], negatives=inputs[3]))
    module._predict(module.averaged, short)
    assert seen["mask"].sum() > 8
    assert not seen["mask"][0, 13:].any()
    assert int(seen["negatives"][0][seen["mask"][0]].max()) < 13


def test_the_terms_and_the_temperature():
    module = stage(diversity_weight=0.3, gumbel_temperatures=(2.0, 0.5), gumbel_decay=0.5).eval()
    found, _ = module._predict(module.averaged, clips(-1, [1, 2]))
    terms = module.losses(module.averaged, clips(-1, [1, 2]))
    assert set(terms) == {"contrastive", "diversity", "features"}
    assert float(terms["contrastive"]) == pytest.approx(float(found.contrastive))
    assert float(terms["diversity"]) == pytest.approx(0.3 * (16 - float(found.perplexity)) / 16)
    temperatures = []
    for _ in range(4):
        temperatures.append(module.gumbel_temperature)
        module.steps_taken += 1
    assert temperatures == [2.0, 1.0, 0.5, 0.5]


def fit(module, batches, steps, callbacks=(), resume=None, valid=False) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, callbacks=list(callbacks), plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        num_sanity_val_steps=0, check_val_every_n_epoch=None, val_check_interval=1,
    )  # fmt: skip
    loaders = {"val_dataloaders": DataLoader([clips(-1, [8, 9])], batch_size=None)} if valid else {}
    trainer.fit(module, Onwards(module, batches), ckpt_path=resume, **loaders)
    return trainer


class Onwards:
    """Batches from the one that the module is to see next, as the data module gives them."""

    def __init__(self, module, batches):
        self.module, self.batches = module, batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        yield from self.batches[int(self.module.batches_seen) :]


class Stop(Callback):
    """Raise the flag that a signal raises, after some batches."""

    def __init__(self, checkpoint, after):
        self.checkpoint, self.after = checkpoint, after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.checkpoint.signalled |= int(pl_module.batches_seen) >= self.after


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_training_goes_on_bit_equal(tmp_path, after):
    batches = [clips(step // 2, [2 * (step % 2), 2 * (step % 2) + 1]) for step in range(5)]
    undisturbed, stopped, resumed = stage(), stage(), stage()
    fit(undisturbed, batches, 5)
    path = tmp_path / "last.ckpt"
    last = LastCheckpoint(path, every_n_steps=100)
    fit(stopped, batches, 5, [Stop(last, after), last])
    assert last.interrupted
    torch.rand(17)  # The global generator has moved on.
    fit(resumed, batches, 5, resume=path)
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_validation_logs_accuracy_and_code_perplexity():
    metrics = fit(stage(), [clips(0, [0, 1])], 1, valid=True).callback_metrics
    assert {"val/contrastive", "val/contrastive_accuracy", "val/code_perplexity", "val/loss"} <= set(metrics)
    assert {"train/contrastive_accuracy", "train/code_perplexity"} <= set(metrics)
    assert 0 <= float(metrics["val/contrastive_accuracy"]) <= 1
    assert 1 <= float(metrics["val/code_perplexity"]) <= 16


def test_what_does_not_fit_is_refused_with_both_numbers():
    encoder = Wav2Vec2ConformerEncoder(RATE, 25.0, 16, 1, 2, 32, conv_width=8)
    with pytest.raises(ValueError, match=r"context_width 12 must be the encoder's, 16"):
        RepresentationLearning(encoder, MaskedPrediction(12, 8), Optimization(), sample_rate=RATE)
    with pytest.raises(ValueError, match=r"feature_width 9 must be the encoder's, 8"):
        RepresentationLearning(encoder, MaskedPrediction(16, 9), Optimization(), sample_rate=RATE)
    with pytest.raises(ValueError, match=r"works at 8000 Hz but the data has 16000 Hz"):
        stage(sample_rate=16000)
    with pytest.raises(ValueError, match=r"mask_share 1 must be between 0 and 1"):
        stage(mask_share=1.0)
