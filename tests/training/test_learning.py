"""Each training class overfits a handful of clips: with real, small networks the loss falls far below its start."""

import pytest
import torch
from toys import ToyAutoencoder

from melody_cm.autoencoders import GriffinLim, MelAutoencoder, WaveformAutoencoder
from melody_cm.batch import MusicBatch
from melody_cm.denoisers import DualPathDenoiser, UNet2D
from melody_cm.diffusion import (
    ConsistencyObjective,
    ConsistencySampler,
    DDIMSampler,
    DenoisingObjective,
    GridAngles,
    Guided,
    LinearAngles,
    ScaledLinearBetaAngles,
    TimestepDenoiser,
)
from melody_cm.encoders import LogMelKMeans, ResidualKMeans, SemanticConditioner, TextConditioner, TwoTowerEmbedding
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.losses import LogMelLoss, MultiResolutionSTFTLoss
from melody_cm.training import (
    AutoencoderTraining,
    ConsistencyDistillation,
    JointEmbeddingTraining,
    LanguageModelTraining,
    LatentDiffusion,
    Optimization,
)
from melody_cm.training.latent_diffusion import encode_latent

RATE = 8000
SAMPLES = 4096
MEL = {"sample_rate": RATE, "n_fft": 256, "hop_length": 64, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}
CAPTIONS = ["a low hum", "a whistle", "two tones at once", "slow beating"]


def clips(epoch: int = 0) -> MusicBatch:
    t = torch.arange(SAMPLES) / RATE
    pitches = torch.tensor([[110.0, 220.0], [1500.0, 1500.0], [330.0, 990.0], [440.0, 444.0]])
    waveform = 0.3 * torch.sin(2 * torch.pi * pitches[..., None] * t).sum(1, keepdim=True)
    items = torch.arange(4)
    return MusicBatch(items, torch.full((4,), epoch), waveform, torch.ones(4, SAMPLES, dtype=torch.bool), CAPTIONS)


def overfit(stage, steps: int, learning_rate: float) -> tuple[float, float]:
    """Mean loss of the first and of the last steps on the same clips with fresh draws in each step."""
    optimizer = torch.optim.AdamW([p for p in stage.trained.parameters() if p.requires_grad], learning_rate)
    losses = []
    for step in range(steps):
        loss = torch.stack(list(stage.losses(stage.trained, clips(step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.steps_taken += 1
        stage.after_step()
        losses.append(float(loss))
    span = max(1, steps // 10)
    return sum(losses[:span]) / span, sum(losses[-span:]) / span


def fitted_tokenizer() -> LogMelKMeans:
    tokenizer = LogMelKMeans(RATE, frame_rate=31.25, codebook_size=8, num_mels=16, n_fft=256)
    tokenizer.fit(tokenizer.features(clips()).flatten(0, 1), seed=0)
    return tokenizer


def small_towers() -> TwoTowerEmbedding:
    sizes = {"audio_layers": 1, "audio_width": 32, "audio_heads": 2, "text_layers": 1, "text_width": 32}
    mel = {"num_mels": 32, "n_fft": 256, "hop_length": 64, "patch_size": 16, "patch_stride": 16}
    return TwoTowerEmbedding(RATE, SAMPLES / RATE, width=16, text_heads=2, max_text_bytes=32, **sizes, **mel)


def waveform_autoencoder() -> WaveformAutoencoder:
    return WaveformAutoencoder(RATE, [4, 4], [8, 16], [9, 9], [16, 8], [9, 9], 32, 4, [3], [1, 3])


def mel_autoencoder() -> MelAutoencoder:
    vocoder = GriffinLim(**MEL, iterations=2)
    return MelAutoencoder(
        vocoder, **MEL, block_out_channels=[8, 16], latent_channels=2, layers_per_block=1, norm_num_groups=4
    )


@pytest.mark.parametrize(
    ("autoencoder", "loss", "share"),
    [
        (waveform_autoencoder, MultiResolutionSTFTLoss([256, 64], [256, 64], [64, 16], 1.0, 1.0), 0.6),
        (mel_autoencoder, LogMelLoss(), 0.5),
    ],
)
def test_autoencoders(autoencoder, loss, share):
    stage = AutoencoderTraining(autoencoder(), loss, Optimization(), kl_weight=1e-4, sample_rate=RATE)
    first, last = overfit(stage, 60, 3e-3)
    assert last < share * first


def test_the_joint_embedding_tells_the_clips_apart():
    stage = JointEmbeddingTraining(small_towers(), Optimization(), ema_decay=0.9, sample_rate=RATE)
    first, last = overfit(stage, 100, 3e-3)
    assert last < 0.3 * first
    embedding = stage.exports["joint_embedding"]
    similarity = embedding.embed_audio(clips().waveform) @ embedding.embed_text(CAPTIONS).T
    assert similarity.argmax(1).tolist() == similarity.argmax(0).tolist() == [0, 1, 2, 3]


def test_the_language_model_learns_the_clips_by_heart():
    tokenizer = fitted_tokenizer()
    prompts = ResidualKMeans(small_towers(), num_codebooks=2, codebook_size=2, width=16)
    prompts.fit(prompts.features(clips())[:, 0], seed=0)
    streams = [Stream("prompt", 2, 2), Stream("semantic", 1, 8)]
    lm = CausalTokenLM(streams, width=32, num_layers=2, num_heads=2, feedforward_width=64, max_frames=16)
    stage = LanguageModelTraining(lm, Optimization(), prompts, tokenizer, sample_rate=RATE)
    first, last = overfit(stage, 60, 1e-2)
    assert last < 0.3 * first


def certain(autoencoder):
    """An autoencoder whose posterior is narrow: noise cannot be learnt by heart."""
    head = autoencoder.vae.quant_conv if isinstance(autoencoder, MelAutoencoder) else autoencoder.encoder
    with torch.no_grad():
        head.bias[len(head.bias) // 2 :] = -12.0 if isinstance(autoencoder, MelAutoencoder) else -6.0
    return autoencoder.requires_grad_(False)


def latent_diffusion(kind: str) -> LatentDiffusion:
    common = {
        "sampler": DDIMSampler(),
        "optimization": Optimization(),
        "num_steps": 3,
        "ema_decay": 0.9,
        "sample_rate": RATE,
    }
    if kind == "melody":
        denoiser = DualPathDenoiser(
            2, 16, num_blocks=2, segment_length=16, num_heads=2, feedforward_width=32, angle_width=8
        )
        conditioner = SemanticConditioner(fitted_tokenizer(), codebook_size=8, width=16)
        objective = DenoisingObjective(LinearAngles(), num_chunks=4)
        return LatentDiffusion(
            certain(ToyAutoencoder(RATE)), conditioner, denoiser, objective, LinearAngles(), **common
        )
    schedule = ScaledLinearBetaAngles(zero_terminal_snr=True)
    body = UNet2D(2, 16, channels=[16, 16], layers_per_block=1, attention_levels=[1], head_width=8)
    conditioner = TextConditioner(small_towers(), width=16)
    objective = DenoisingObjective(schedule)
    denoiser = TimestepDenoiser(body, schedule, "velocity")
    return LatentDiffusion(certain(mel_autoencoder()), conditioner, denoiser, objective, schedule, **common)


def test_latents_are_draws_from_the_posterior_or_from_its_cache():
    autoencoder, batch = ToyAutoencoder(RATE), clips(epoch=3)
    mean, std = autoencoder.posterior(batch.waveform)
    expected = mean + std * batch.draws(5).normal("posterior", mean.shape[1:])
    torch.testing.assert_close(encode_latent(autoencoder, batch, seed=5), expected)
    batch.latent_mean, batch.latent_std = 2 * mean, torch.zeros_like(std)
    torch.testing.assert_close(encode_latent(autoencoder, batch, seed=5), 2 * mean)


@pytest.mark.parametrize("kind", ["melody", pytest.param("musiccm", marks=pytest.mark.slow)])
def test_latent_diffusion(kind):
    stage = latent_diffusion(kind)
    first, last = overfit(stage, 100, 5e-3)
    assert last < 0.5 * first
    music = stage.sample(clips())
    assert music.shape == (4, 1, SAMPLES)
    assert music.isfinite().all()


def distance_to_the_teacher(stage: ConsistencyDistillation, denoiser) -> float:
    """How far one step of `denoiser` is from the guided teacher's 50 steps, from the same noise."""
    noise = torch.randn(8, *stage.autoencoder.latent_shape(SAMPLES / RATE), generator=torch.Generator().manual_seed(1))
    batch = clips()
    conditioning = stage.conditioner.embed(stage.conditioner.describe(batch).repeat(2, 1))
    trailing = ScaledLinearBetaAngles(zero_terminal_snr=True)
    guided = Guided(stage.teacher, stage.objective.guidance_scale)
    best = DDIMSampler().sample(guided, noise, conditioning, trailing.angles(50), [])
    one = DDIMSampler().sample(denoiser, noise, conditioning, trailing.angles(1), [])
    return float((one - best).square().mean())


@torch.no_grad()
def consistency_gap(stage) -> float:
    """How far the averaged student and the target are apart at neighbouring angles, with draws never trained on."""
    return sum(float(stage.losses(stage.averaged, clips(epoch))["distillation"]) for epoch in range(1000, 1020))


@pytest.mark.slow
def test_consistency_distillation_starts_at_its_teacher_and_learns():
    teacher = latent_diffusion("musiccm")
    overfit(teacher, 150, 5e-3)
    denoiser, conditioner = teacher.averaged["denoiser"], teacher.averaged["conditioner"]
    schedule = ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=True)
    objective = ConsistencyObjective(schedule, grid_steps=5, guidance_scale=2.0)
    stage = ConsistencyDistillation(
        teacher.autoencoder, conditioner, denoiser, objective, GridAngles(schedule, 5), ConsistencySampler(),
        Optimization(), num_steps=2, sample_rate=RATE,
    )  # fmt: skip
    states = [network.state_dict() for network in (stage.trained["denoiser"], stage.target, stage.averaged["denoiser"])]
    for state in states:
        assert state.keys() == denoiser.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in denoiser.state_dict().items())
    frozen = {name: value.clone() for name, value in denoiser.state_dict().items()}
    target = {name: value.clone() for name, value in stage.target.state_dict().items()}
    guided = Guided(denoiser, stage.objective.guidance_scale)
    before = min(distance_to_the_teacher(stage, one_step) for one_step in (denoiser, guided))
    gap = consistency_gap(stage)
    overfit(stage, 200, 3e-3)
    assert consistency_gap(stage) < 0.95 * gap
    assert distance_to_the_teacher(stage, stage.averaged["denoiser"]) < 0.5 * before
    assert all(torch.equal(value, frozen[name]) for name, value in denoiser.state_dict().items()), "the teacher moved"
    assert any(not torch.equal(value, target[name]) for name, value in stage.target.state_dict().items())
    assert stage.sample(clips()).isfinite().all()
