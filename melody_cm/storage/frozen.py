"""Finished stages as parts of later ones: small classes, one per interface, that load a stage's export and freeze it.

A recipe names the stage (`melody/5_audio_vae_gan`); it is looked up in the current run, whose folder the command line
puts into the environment variable MELODY_CM_RUN (so that the processes of a multi-GPU training find it too).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import (
    Angle,
    Autoencoder,
    Codec,
    Conditioner,
    Conditioning,
    Denoiser,
    FeatureNetwork,
    JointEmbedding,
    Network,
    Reconstruction,
    SemanticEncoder,
    Tokenizer,
    TokenLM,
    Vocoder,
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
            f"stage {stage} is not finished in {current_run()}; "
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
        self.stage = stage
        self.network: Any = self.load(stage).requires_grad_(False)
        self.eval()

    def load(self, stage: str) -> Network:
        """What the stage exported for the slot."""
        from melody_cm.storage.export import load_network

        return load_network(stage_folder(stage) / "export" / self.slot)

    @property
    def weights(self) -> str:
        """The hash of its weights."""
        from melody_cm.storage.export import weight_hash

        return weight_hash(stage_folder(self.stage) / "export" / self.slot)

    @property
    def pass_module(self) -> nn.Module:
        return self.network.pass_module

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

    def clamp(self, latent: Tensor) -> Tensor:
        return self.network.clamp(latent)

    def decode(self, latent: Tensor) -> Tensor:
        return self.network.decode(latent)

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        return self.network.latent_shape(seconds)


class FrozenVocoder(Frozen, Vocoder):
    """The vocoder of a finished stage, with the mels that it understands."""

    slot = "vocoder"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.sample_rate = self.network.sample_rate
        self.mel_settings = self.network.mel_settings

    def forward(self, mel: Tensor) -> Tensor:
        return self.network(mel)


class FrozenCodec(Frozen, Codec):
    """The codec of a finished stage."""

    slot = "codec"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.sample_rate = self.network.sample_rate
        self.frame_rate = self.network.frame_rate
        self.num_codebooks = self.network.num_codebooks
        self.codebook_size = self.network.codebook_size

    @torch.no_grad()
    def encode_codes(self, waveform: Tensor) -> Tensor:
        return self.network.encode_codes(waveform)

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        return self.network.decode_codes(codes)


class FrozenSemanticEncoder(Frozen, SemanticEncoder):
    """The semantic encoder of a finished stage."""

    slot = "semantic_encoder"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.sample_rate = self.network.sample_rate
        self.frame_rate = self.network.frame_rate
        self.width = self.network.width
        self.num_layers = self.network.num_layers

    @torch.no_grad()
    def hidden_states(self, waveform: Tensor, layer: int) -> Tensor:
        return self.network.hidden_states(waveform, layer)


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
        self.uses_audio = self.network.uses_audio

    @torch.no_grad()
    def describe(self, batch: MusicBatch) -> Tensor:
        return self.network.describe(batch)

    @torch.no_grad()
    def embed(self, source: Tensor) -> Conditioning:
        return self.network.embed(source)


class FrozenDenoiser(Frozen, Denoiser, FeatureNetwork):
    """A trained denoiser, as teacher, for sampling, or for its features."""

    slot = "denoiser"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.per_frame_angles = self.network.per_frame_angles
        self.feature_channels = getattr(self.network, "feature_channels", ())

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        return self.network(noisy_latent, angle, conditioning)

    def features(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> list[Tensor]:
        return self.network.features(noisy_latent, angle, conditioning)


class FrozenTokenLM(Frozen, TokenLM):
    """A trained language model."""

    slot = "language_model"

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stream_sizes = self.network.stream_sizes
        self.frame_rates = self.network.frame_rates
        self.max_frames = self.network.max_frames

    @torch.no_grad()
    def logits(self, streams: Mapping[str, Tensor]) -> Tensor:
        return self.network.logits(streams)

    @torch.no_grad()
    def extend(
        self,
        prompt: Mapping[str, Tensor],
        codes: Tensor,
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        return self.network.extend(prompt, codes, length, generators, temperature, top_k, top_p)


def thaw(network: Network) -> Network:
    """The network inside a frozen one; any other network unchanged."""
    return network.network if isinstance(network, Frozen) else network
