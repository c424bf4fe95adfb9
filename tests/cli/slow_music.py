"""A system that takes its time, so that a comparison can be killed in its middle; imported by a preset of a test."""

import os
import time

import torch

from melody_cm.audio import GeneratedAudio
from melody_cm.interfaces import Autoencoder, Pipeline
from melody_cm.randomness import keyed_generator


class SlowMusic(Pipeline):
    """Noise that a trained stage decodes, quieter with every step; each batch after as many seconds as PAUSE says."""

    def __init__(self, denoiser: Autoencoder, max_seconds: float):
        self.decoder = denoiser
        self.max_seconds, self.sample_rate = 2 * max_seconds, denoiser.sample_rate

    def generate(self, prompts, seconds, seed=0, num_steps=None, guidance_scale=None):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        seeds = [seed] * len(prompts) if isinstance(seed, int) else seed
        shape = self.decoder.latent_shape(seconds)
        noise = [
            torch.randn(shape, generator=keyed_generator(own, "slow music", len(prompt), 0))
            for own, prompt in zip(seeds, prompts, strict=True)
        ]
        with torch.no_grad():
            waveform = self.decoder.decode(torch.stack(noise) / (num_steps or 1))
        return GeneratedAudio(waveform.clamp(-1, 1), self.sample_rate, {"decoder": 0.0})

    def identity(self):
        return {"class": "SlowMusic", "weights": [float(value.sum()) for value in self.decoder.state_dict().values()]}
