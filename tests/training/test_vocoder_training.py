import pytest
import torch
from lightning.pytorch import Trainer
from test_stage import Tones, batch
from toys import ToyDiscriminator

from melody_cm.autoencoders import HiFiGANVocoder
from melody_cm.losses import LeastSquaresLoss
from melody_cm.signal import MelFrontEnd
from melody_cm.training import Adversary, Optimization, VocoderTraining

LAYERS = {
    "sample_rate": 8000, "n_fft": 128, "hop_length": 32, "num_mels": 20, "f_min": 0.0, "f_max": 4000.0,
    "upsampling": [4, 4, 2], "upsampling_kernels": [8, 8, 4], "first_channels": 64, "residual_kernels": [3],
    "residual_dilations": [1, 3],
}  # fmt: skip


def stage(adversary=False) -> VocoderTraining:
    torch.manual_seed(0)
    critic = Adversary(ToyDiscriminator(), LeastSquaresLoss(), Optimization(learning_rate=1e-3), 0.0)
    return VocoderTraining(
        HiFiGANVocoder(**LAYERS), Optimization(learning_rate=3e-3), adversary=critic if adversary else None,
        ema_decay=0.9, sample_rate=8000,
    )  # fmt: skip


def fit(module, tmp_path, steps):
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Tones(4))


def test_the_generator_hears_45_times_the_l1_of_log_mels_of_its_own_definition():
    module, clips = stage(), batch(0, [0, 1])
    generated = module.generate(module.trained, clips)
    front_end = MelFrontEnd(module.trained["vocoder"].mel_settings)
    mel = front_end(clips.waveform)
    fake = module.trained["vocoder"](mel)[..., : clips.waveform.shape[-1]]
    expected = 45 * (front_end(fake) - mel).abs().mean()
    assert list(generated.terms) == ["mel"]
    torch.testing.assert_close(generated.terms["mel"], expected)
    assert generated.real.shape == generated.fake.shape == clips.waveform.shape
    assert torch.equal(generated.real, clips.waveform)


@pytest.mark.parametrize("adversary", [False, True])
def test_it_learns_and_exports_the_average(tmp_path, adversary):
    module, clips = stage(adversary), batch(0, [0, 1, 2, 3])
    before = module.losses(module.averaged, clips)["mel"]
    fit(module, tmp_path, 60)
    assert module.losses(module.averaged, clips)["mel"] < 0.6 * before
    assert set(module.exports) == {"vocoder"}
    assert module.sample(clips).shape == clips.waveform.shape
