"""Networks small enough to train a stage in a second; imported by recipes that tests write."""

import os
import signal

import torch
from lightning.pytorch import Callback
from torch import nn

from melody_cm.interfaces import Autoencoder, Discriminator, DiscriminatorOutput, Reconstruction
from melody_cm.losses import ReconstructionLoss


class ToyAutoencoder(Autoencoder):
    """One strided convolution each way."""

    def __init__(self, sample_rate: int = 8000, latent_channels: int = 2):
        super().__init__()
        self.sample_rate, self.latent_channels = sample_rate, latent_channels
        self.encoder = nn.Conv1d(1, 2 * latent_channels, 16, stride=16)
        self.decoder = nn.ConvTranspose1d(latent_channels, 1, 16, stride=16)

    def posterior(self, waveform):
        mean, log_std = self.encoder(waveform).chunk(2, dim=1)
        return mean, log_std.exp()

    def reconstruct(self, waveform, draws):
        mean, std = self.posterior(waveform)
        latent = mean + std * draws.normal("posterior", mean.shape[1:], mean.device)
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum(1).mean(-1)
        return Reconstruction(waveform, self.decode(latent), kl)

    def decode(self, latent):
        return self.decoder(latent)

    def latent_shape(self, seconds):
        return (self.latent_channels, round(seconds * self.sample_rate) // 16)


class ToyDiscriminator(Discriminator):
    """One convolution and one output every eight samples."""

    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Conv1d(1, 4, 8, stride=8), nn.Conv1d(4, 1, 1)

    def forward(self, sample):
        hidden = self.hidden(sample).tanh()
        return [DiscriminatorOutput(self.output(hidden).flatten(1), [hidden])]


class SquaredError(ReconstructionLoss):
    """Mean squared error."""

    def __init__(self):
        super().__init__()

    def forward(self, prediction, target):
        return {"squared_error": torch.mean((prediction - target) ** 2)}


class SignalAt(Callback):
    """Sends SIGTERM to its own process after a step, as a scheduler does to every process of a group."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if pl_module.steps_done == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class Raises(SquaredError):
    """A loss that cannot be computed."""

    def forward(self, prediction, target):
        raise ValueError("raised on purpose")
