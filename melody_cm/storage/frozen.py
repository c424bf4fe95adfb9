"""Finished stages as parts of later ones: small classes, one per interface, that load a stage's export and freeze it.

A recipe names the stage (`melody/5_audio_vae_gan`); it is looked up in the current run, whose folder the command line
puts into the environment variable MELODY_CM_RUN (so that the processes of a multi-GPU training find it too).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import (
    Angle,
    Autoencoder,
    Conditioner,
    Conditioning,
    Denoiser,
    JointEmbedding,
    Network,
    Reconstruction,
    Tokenizer,
    TokenLM,
)
from melody_cm.randomness import Draws

RUN_VARIABLE = "MELODY_CM_RUN"


def enter_run(run: Path) -> None:
    """From now on frozen stages are looked up in this run, in this process and in those that it starts."""
    os.environ[RUN_VARIABLE] = str(Path(run).resolve())


def current_run() -> Path:
    """The folder of the run in which frozen stages are looked up."""
    return Path(os.environ.get(RUN_VARIABLE, "."))


def stage_folder(stage: str) -> Path:
    """Where a stage of the current run lives.

    Raises:
        FileNotFoundError: no finished stage of that name; the message names the recipe that makes it.
    """
    folder = current_run() / stage
    if not (folder / "finished.json").is_file():
        raise FileNotFoundError(
            f"stage {stage} is not finished in {folder.parent.parent}; "
            f"train it first with the same --run and --size: melody-cm train recipes/{stage}.yaml"
        )
    return folder


class Frozen(Network):
    """A network of a finished stage: no gradient, always in evaluation mode, absent from its owner's checkpoints.

    Args:
        stage: the stage's name inside the run, "system/stage".
    """

    slot: str

    def __init__(self, stage: str) -> None:
        super().__init__()
        from melody_cm.storage.export import load_network

        self.stage = stage
        self.network: Any = load_network(stage_folder(stage) / "export" / self.slot).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        return {} if destination is None else destination


class FrozenAutoencoder(Frozen, Autoencoder):
    """The autoencoder of a finished stage."""

    slot = "autoencoder"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.sample_rate = self.network.sample_rate
        self.latent_channels = self.network.latent_channels

    @torch.no_grad()
    def posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.posterior(waveform)

    @torch.no_grad()
    def reconstruct(self, waveform: Tensor, draws: Draws) -> Reconstruction:
        return self.network.reconstruct(waveform, draws)

    def limit(self, latent: Tensor) -> Tensor:
        return self.network.limit(latent)

    def decode(self, latent: Tensor) -> Tensor:
        return self.network.decode(latent)

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        return self.network.latent_shape(seconds)


class FrozenTokenizer(Frozen, Tokenizer):
    """The tokenizer of a finished stage."""

    slot = "tokenizer"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.num_codebooks = self.network.num_codebooks
        self.codebook_size = self.network.codebook_size
        self.frame_rate = self.network.frame_rate

    def forward(self, batch: MusicBatch) -> Tensor:
        """The codes of a batch: those of this stage that were encoded before, else quantized now."""
        known = batch.codes.get(self.stage)
        return super().forward(batch) if known is None else known

    @torch.no_grad()
    def features(self, batch: MusicBatch) -> Tensor:
        return self.network.features(batch)

    def fit(self, features: Tensor, seed: int) -> None:
        raise ValueError("a frozen tokenizer cannot be fitted again; retrain its stage")

    @torch.no_grad()
    def quantize(self, features: Tensor) -> Tensor:
        return self.network.quantize(features)

    @torch.no_grad()
    def dequantize(self, codes: Tensor) -> Tensor:
        return self.network.dequantize(codes)


class FrozenJointEmbedding(Frozen, JointEmbedding):
    """The joint text-audio embedding of a finished stage."""

    slot = "joint_embedding"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.sample_rate = self.network.sample_rate
        self.window_seconds = self.network.window_seconds
        self.width = self.network.width

    @torch.no_grad()
    def embed_audio(self, waveform: Tensor) -> Tensor:
        return self.network.embed_audio(waveform)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return self.network.embed_text(texts)


class FrozenConditioner(Frozen, Conditioner):
    """The conditioner that was trained with a denoiser."""

    slot = "conditioner"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.hears_audio = self.network.hears_audio

    @torch.no_grad()
    def describe(self, batch: MusicBatch) -> Tensor:
        return self.network.describe(batch)

    @torch.no_grad()
    def embed(self, source: Tensor) -> Conditioning:
        return self.network.embed(source)


class FrozenDenoiser(Frozen, Denoiser):
    """A trained denoiser, as teacher or for sampling."""

    slot = "denoiser"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.per_frame_angles = self.network.per_frame_angles

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        return self.network(noisy_latent, angle, conditioning)


class FrozenTokenLM(Frozen, TokenLM):
    """A trained language model."""

    slot = "language_model"

    @torch.no_grad()
    def logits(self, streams: Mapping[str, Tensor]) -> Tensor:
        return self.network.logits(streams)

    @torch.no_grad()
    def sample(
        self,
        prompt: Mapping[str, Tensor],
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        return self.network.sample(prompt, length, generators, temperature, top_k, top_p)


def thaw(network: Network) -> Network:
    """The network inside a frozen one; any other network unchanged."""
    return network.network if isinstance(network, Frozen) else network
