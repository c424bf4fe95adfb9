"""Stages small enough to train in a second, and a house with recipes for them, for tests of what watches a training."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from torch import nn

from melody_cm.interfaces import Autoencoder, Conditioner, Conditioning, Denoiser, Reconstruction
from melody_cm.losses import ReconstructionLoss

REPOSITORY = Path(__file__).resolve().parents[2]


class TinyAutoencoder(Autoencoder):
    """One strided convolution each way."""

    def __init__(self, sample_rate: int = 8000, latent_channels: int = 4):
        super().__init__()
        self.sample_rate, self.latent_channels = sample_rate, latent_channels
        self.encoder = nn.Conv1d(1, latent_channels, 16, stride=16)
        self.decoder = nn.ConvTranspose1d(latent_channels, 1, 16, stride=16)

    def posterior(self, waveform):
        mean = self.encoder(waveform)
        return mean, torch.full_like(mean, 1e-2)

    def reconstruct(self, waveform, draws):
        mean, std = self.posterior(waveform)
        latent = mean + std * draws.normal("posterior", mean.shape[1:], mean.device)
        return Reconstruction(waveform, self.decode(latent), (mean**2).sum(1).mean(-1))

    def decode(self, latent):
        return self.decoder(latent)

    def latent_shape(self, seconds):
        return (self.latent_channels, round(seconds * self.sample_rate) // 16)


class SquaredDifference(ReconstructionLoss):
    """Mean squared error."""

    def __init__(self):
        super().__init__()

    def forward(self, prediction, target):
        return {"squared_error": torch.mean((prediction - target) ** 2)}


class CaptionLength(Conditioner):
    """A caption's number of letters."""

    uses_audio = False

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def describe(self, batch):
        return torch.tensor([[len(text) / 100] for text in batch.captions])

    def embed(self, source):
        return Conditioning(None, source * self.gain, None, torch.zeros(len(source), dtype=torch.bool))


class TinyDenoiser(Denoiser):
    """One convolution with dropout, a stray draw from the global random stream, and the condition as an offset."""

    def __init__(self, latent_channels: int = 4, dropout: float = 0.0):
        super().__init__()
        self.convolution = nn.Conv1d(latent_channels, latent_channels, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.offset = nn.Linear(1, latent_channels)

    def forward(self, noisy_latent, angle, conditioning):
        offset = torch.where(conditioning.dropped[:, None], 0.0, self.offset(conditioning.pooled))
        velocity = self.dropout(self.convolution(noisy_latent)) + offset[..., None]
        return velocity * angle.reshape(len(angle), -1).mean(1).cos()[:, None, None] + 0 * torch.rand(())


def diffusion_recipe(callbacks, steps=8, dropout=0.0, **trainer):
    """A recipe of latent diffusion whose held-back split has few clips."""
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "melody_cm.training.LatentDiffusion",
            "init_args": {
                "autoencoder": {"class_path": "callback_toys.TinyAutoencoder"},
                "conditioner": {"class_path": "callback_toys.CaptionLength"},
                "denoiser": {"class_path": "callback_toys.TinyDenoiser", "init_args": {"dropout": dropout}},
                "objective": {
                    "class_path": "melody_cm.diffusion.DenoisingObjective",
                    "init_args": {"schedule": {"class_path": "melody_cm.diffusion.UniformAngles"}},
                },
                "schedule": {"class_path": "melody_cm.diffusion.UniformAngles"},
                "sampler": {"class_path": "melody_cm.diffusion.DDIMSampler"},
                "optimization": {"learning_rate": 0.01},
                "num_steps": 2,
            },
        },
        **_rest(callbacks, steps, trainer),
    }


def autoencoder_recipe(callbacks, steps=8, **trainer):
    """A recipe of an autoencoder on the same music."""
    arguments = {
        "autoencoder": {"class_path": "callback_toys.TinyAutoencoder"},
        "reconstruction_loss": {"class_path": "callback_toys.SquaredDifference"},
        "optimization": {"learning_rate": 0.01},
    }
    model = {"class_path": "melody_cm.training.AutoencoderTraining", "init_args": arguments}
    return {"seed_everything": 0, "model": model, **_rest(callbacks, steps, trainer)}


def _rest(callbacks, steps, trainer):
    corpus = {"num_clips": 60, "seconds": 1.0, "sample_rate": 8000}
    return {
        "data": {
            "corpus": {"class_path": "melody_cm.data.SyntheticCorpus", "init_args": corpus},
            "sample_rate": 8000,
            "seconds": 1.024,
            "batch_size": 4,
        },
        "trainer": {"max_steps": steps, "val_check_interval": 4, "callbacks": callbacks, **trainer},
    }


def build_house(root, recipe):
    """A folder with one recipe, toy/1_stage, in which the command line can run."""
    file = root / "recipes/toy/1_stage.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**recipe, "sizes": {"tiny": {"trainer": {"log_every_n_steps": 1}}}}))


def callback(name, **arguments):
    """A callback as a recipe writes it."""
    return {"class_path": f"melody_cm.evaluation.callbacks.{name}", "init_args": arguments}


LOGMEL = {"class_path": "melody_cm.evaluation.embeddings.LogMelEmbedding", "init_args": {"num_bands": 2}}


def train_in_two_processes(house, arguments):
    """Train what `build_house` has built as the run "two", in two processes; returns what subprocess.run does."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)]),
        "MELODY_CM_CACHE": str(house / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    two = ["--run", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]
    command = [sys.executable, "-m", "melody_cm.cli.main", *arguments, *two]
    return subprocess.run(command, cwd=house, env=environment, text=True, capture_output=True, timeout=200)
