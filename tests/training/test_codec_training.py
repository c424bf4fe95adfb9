"""The codec's stage: codebooks learn once a step, from everything and everywhere, and resume exactly."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from test_adversarial_stage import Stop, fit, weights
from test_stage import Tones, batch
from toys import SquaredError, ToyDiscriminator

from melody_cm.autoencoders import WaveformCodec
from melody_cm.losses import LeastSquaresLoss
from melody_cm.training import Adversary, CodecTraining, Optimization
from melody_cm.training.codec import CodebookPerplexity
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint


def stage(**settings) -> CodecTraining:
    torch.manual_seed(3)
    codec = WaveformCodec(
        8000, [2, 4], [4, 6], [6, 4], 6, width=4, num_codebooks=2, codebook_size=6, residual_kernels=[3],
        residual_dilations=[1], codebook_decay=0.9,
    )  # fmt: skip
    adversary = Adversary(ToyDiscriminator(), LeastSquaresLoss(), Optimization(learning_rate=1e-2), start=0.3)
    settings = {"adversary": adversary, "gradient_clip": 1e9, "sample_rate": 8000, **settings}
    return CodecTraining(codec, SquaredError(), Optimization(learning_rate=1e-2), **settings)


def same(one, other, rtol=0.0, atol=0.0):
    for name, value in one.state_dict().items():
        if name != "batches_seen":
            torch.testing.assert_close(other.state_dict()[name], value, rtol=rtol, atol=atol, msg=name)


def test_codebooks_learn_once_a_step_from_the_clips_in_order(tmp_path):
    module, learned = stage(), []
    quantizer = module.trained["codec"].quantizer
    learn = quantizer.learn
    quantizer.learn = lambda features, seed: learned.append((features, seed)) or learn(features, seed)
    before = quantizer.layers.codebooks.clone()
    expected = module.trained["codec"].features(batch(0, [0, 1, 2, 3]).waveform).flatten(0, 1).detach()
    fit(module, tmp_path, steps=4)
    assert len(learned) == 4
    torch.testing.assert_close(learned[0][0], expected)
    assert len({seed for _, seed in learned}) == 4
    assert not torch.equal(quantizer.layers.codebooks, before)


def test_the_order_and_the_place_of_the_clips_do_not_matter(tmp_path):
    """What a process is given, and in which order, is what two processes differ in from one."""
    whole, shuffled = stage(), stage()
    items, epochs = torch.tensor([4, 1, 3, 2]), torch.tensor([0, 1, 0, 0])
    features = torch.randn(4, 8, 4)
    for module, order in ((whole, [0, 1, 2, 3]), (shuffled, [2, 0, 3, 1])):
        module.all_gather = lambda rows, order=order: rows[order].unflatten(0, (2, 2))
        module._seen = [(epochs[:1] * 2**32 + items[:1], features[:1]), (epochs[1:] * 2**32 + items[1:], features[1:])]
        module.after_step()
        assert module._seen == []
    same(whole, shuffled)
    third = stage()
    third.all_gather = lambda rows: rows
    third._seen = [(torch.arange(4), features)]  # Other clips: another order of the same vectors.
    third.after_step()
    assert not torch.equal(
        third.trained["codec"].quantizer.layers.codebooks, whole.trained["codec"].quantizer.layers.codebooks
    )


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    whole, parts = stage(), stage(accumulate=2)
    fit(whole, tmp_path, size=4)
    fit(parts, tmp_path, size=2)
    assert int(parts.steps_taken) == int(whole.steps_taken) == 6
    same(whole, parts, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("after", [2, 5])
def test_a_stopped_training_goes_on_bit_equal(tmp_path, after):
    undisturbed = stage(accumulate=2)
    fit(undisturbed, tmp_path, size=2, steps=5)
    path = tmp_path / "last.ckpt"
    stopped, last = stage(accumulate=2), LastCheckpoint(path, every_n_steps=100)
    fit(stopped, tmp_path, size=2, steps=5, callbacks=[Stop(last, after), last])
    torch.manual_seed(99)  # What the global generator gives must not matter.
    resumed, rest = stage(accumulate=2), Tones(2)
    seen = int(torch.load(path, weights_only=True)["state_dict"]["batches_seen"])
    batches = list(Tones(2).train_dataloader())[seen:]
    rest.train_dataloader = lambda: torch.utils.data.DataLoader(batches, batch_size=None)
    torch.manual_seed(98)
    trainer = Trainer(
        accelerator="cpu", max_steps=5, logger=False, plugins=[AtomicCheckpointIO()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(resumed, datamodule=rest, ckpt_path=path)
    same(undisturbed, resumed)


def test_validation_changes_no_codebook_and_says_how_the_codes_are_used(tmp_path):
    class Validated(Tones):
        def val_dataloader(self):
            return torch.utils.data.DataLoader([batch(-1, [0, 1]), batch(-1, [2, 3])], batch_size=None)

    module = stage()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    [logged] = trainer.validate(module, datamodule=Validated(4), verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    codec = module.averaged["codec"]
    codes = torch.cat([codec.encode_codes(batch(-1, items).waveform) for items in ([0, 1], [2, 3])])
    for level in range(2):
        shares = codes[:, level].flatten().bincount().double() / codes[:, level].numel()
        entropy = -sum(share * math.log(share) for share in shares.tolist() if share)
        assert logged[f"val/perplexity_{level}"] == pytest.approx(math.exp(entropy), rel=1e-5)
    assert {"val/loss", "val/squared_error", "val/commitment"} <= logged.keys()


def test_perplexity_counts_equally_used_codes():
    perplexity = CodebookPerplexity(2, 8)
    perplexity.update(torch.tensor([[[0, 1, 2, 3], [5, 5, 5, 5]]]))
    torch.testing.assert_close(perplexity.compute(), torch.tensor([4.0, 1.0]))
    perplexity.update(torch.tensor([[[4, 5, 6, 7], [5, 5, 5, 5]]]))
    torch.testing.assert_close(perplexity.compute(), torch.tensor([8.0, 1.0]))


def test_a_training_learns_and_leaves_a_codec_to_later_stages(tmp_path):
    module, clips = stage(adversary=None), batch(-1, [0, 1, 2, 3])
    before = module.losses(module.trained, clips)["squared_error"].item()
    fit(module, tmp_path, steps=50)
    assert list(module.exports) == ["codec"]
    assert module.losses(module.trained, clips)["squared_error"].item() < 0.5 * before
    sound = module.sample(clips)
    assert sound.shape == clips.waveform.shape
    codec = module.averaged["codec"]
    assert torch.equal(sound, codec.decode_codes(codec.encode_codes(clips.waveform)))
    assert weights(module.averaged).isfinite().all()


def test_the_commitment_is_weighted(tmp_path):
    plain, heavy = stage(commitment_weight=0.25), stage(commitment_weight=2.5)
    terms = [module.losses(module.trained, batch(0, [0, 1]))["commitment"] for module in (plain, heavy)]
    torch.testing.assert_close(terms[1], 10 * terms[0])
