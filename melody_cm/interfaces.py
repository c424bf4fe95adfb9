"""The interfaces of melody_cm: abstract classes whose docstrings state shapes.

A constructor argument typed with one of these classes can be any subclass in a recipe.
Axes: b batch, c channels, t samples, l frames, f mel bins, d width, n sequence, q codebooks. A latent is (b, c, *axes)
with its first axis after the channels running over time: (b, c, l) for waveforms, (b, c, l, f) for mels.
An angle is a noise level in [0, pi/2]: `noisy = cos(angle) * latent + sin(angle) * noise`; angle 0 is clean.
`tokens.py` has the interfaces of tokenizers and language models, `judges.py` those of discriminators and of embeddings
for distances, `network.py` the base class of all networks, `values.py` the values that they exchange. All can be
imported from here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.audio import GeneratedAudio
from melody_cm.batch import MusicBatch
from melody_cm.judges import (
    AdversarialLoss,
    AudioEmbedding,
    Discriminator,
    DiscriminatorContext,
    DiscriminatorOutput,
    DiscriminatorOutputs,
    EmbeddingIdentity,
    FeatureNetwork,
)
from melody_cm.network import Configurable, Network
from melody_cm.randomness import Draws
from melody_cm.tokens import Codec, SemanticEncoder, Tokenizer, TokenLM
from melody_cm.values import Angle, Conditioning, Known, Losses, Reconstruction


class Autoencoder(Network, ABC):
    """Waveform <-> latent. `sample_rate` in Hz; `latent_channels` = c."""

    sample_rate: int
    latent_channels: int

    @abstractmethod
    def posterior(self, waveform: Float[Tensor, "b 1 t"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (b, c, *axes) of the latent in the scale that diffusion sees; for training."""

    @abstractmethod
    def reconstruct(self, waveform: Float[Tensor, "b 1 t"], draws: Draws) -> Reconstruction:
        """Encode, sample the posterior with `draws`, decode; with gradient."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Float[Tensor, "b 1 t"]:
        """The waveform of a latent (b, c, *axes)."""

    @abstractmethod
    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        """(c, *axes) of the latent of a clip of that length."""

    def encode(self, waveform: Float[Tensor, "b 1 t"]) -> Tensor:
        """The latent (b, c, *axes): the posterior's mean, deterministic."""
        return self.clamp(self.posterior(waveform)[0])

    def clamp(self, latent: Tensor) -> Tensor:
        """A draw from the posterior as diffusion sees it: clipped where the autoencoder clips, else unchanged."""
        return latent

    def calibrate(self, waveform: Float[Tensor, "b 1 t"]) -> None:
        """Fix the scale of the latent from real music, once, when training ends; nothing to do by default."""


class Vocoder(Network, ABC):
    """Log-mel -> waveform."""

    sample_rate: int

    @abstractmethod
    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform of a log-mel spectrogram; t = l * hop_length."""


class JointEmbedding(Network, ABC):
    """Text and audio in one space. `sample_rate` in Hz, `window_seconds`, `width` = d.

    Audio longer than the window is cut into windows whose embeddings are averaged and normalized again.
    """

    sample_rate: int
    window_seconds: float
    width: int

    @abstractmethod
    def embed_audio(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b d"]:
        """Unit vectors of waveforms at `sample_rate`."""

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of texts; a ValueError for one without a word."""

    def embed_captions(self, captions: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of captions; zeros for music that has none, which a conditioner reads as unconditional."""
        told = [row for row, caption in enumerate(captions) if caption.strip()]
        if len(told) == len(captions):
            return self.embed_text(captions)
        if not told:
            return torch.zeros(len(captions), self.width, device=next(self.parameters()).device)
        embedded = self.embed_text([captions[row] for row in told])
        rows = torch.tensor(told).to(embedded.device)
        return embedded.new_zeros(len(captions), self.width).index_copy(0, rows, embedded)


class Conditioner(Network, ABC):
    """Source -> conditioning. Training calls `embed(describe(batch))`; a pipeline gives its own source.

    `uses_audio`: whether `describe` uses the batch's waveform, whose sample rate must then be its parts' own.
    """

    uses_audio: bool = True

    @abstractmethod
    def describe(self, batch: MusicBatch) -> Tensor:
        """The source of a training batch, without gradient: codes (b, q, l), a joint embedding (b, d), ..."""

    @abstractmethod
    def embed(self, source: Tensor) -> Conditioning:
        """The conditioning of a source; trained with the denoiser; nothing dropped."""


class Denoiser(Network, ABC):
    """Predicts velocity: `cos(angle) * noise - sin(angle) * latent`.

    `per_frame_angles`: whether angle may be (b, l), one per frame, where angle 0 marks a known frame.
    """

    per_frame_angles: bool = False

    @abstractmethod
    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        """Velocity, of the shape (b, c, *axes) of the noisy latent."""


class TimestepNetwork(Network, ABC):
    """A diffusers-style body: knows timesteps, not angles (diffusion/timesteps.py makes it a `Denoiser`).

    `feature_channels`: c of each of its `features`, as in `FeatureNetwork`; empty where it has none to show.
    """

    feature_channels: Sequence[int] = ()

    @abstractmethod
    def forward(self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning) -> Tensor:
        """Velocity or noise, whichever it was trained for, of the shape of the noisy latent."""

    def features(
        self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning
    ) -> list[Float[Tensor, "b c l"]]:
        """Hidden features, shallow to deep; l counts positions of any kind, and differs from one to the next."""
        raise ValueError(f"{type(self).__name__} has no features for a discriminator; use another feature network")


class AngleSchedule(Configurable, ABC):
    """The noise levels of sampling, and of training where a schedule decides them."""

    @abstractmethod
    def angles(self, num_steps: int) -> Float[Tensor, " num_steps_plus_one"]:
        """fp64, strictly decreasing within [0, pi/2], the last one exactly 0 (unless a schedule is told otherwise)."""

    def training_angles(self, uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Angles to train on from numbers uniform in [0, 1): uniform in [0, pi/2) unless a schedule says otherwise."""
        return uniform * (torch.pi / 2)


class Sampler(Configurable, ABC):
    """Noise -> latent in as many network calls as there are steps between `angles`."""

    @abstractmethod
    def sample(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        conditioning: Conditioning,
        angles: Float[Tensor, " num_steps_plus_one"],
        generators: Sequence[torch.Generator],
        known: Known | None = None,
    ) -> Tensor:
        """The clean latent (b, c, *axes). Fresh noise of row i comes from generator i alone. A ValueError if `known` is
        given but the denoiser takes one angle a clip."""


class Objective(Configurable, ABC):
    """A training loss in latent space. The LightningModule owns the networks and passes them by role."""

    @abstractmethod
    def __call__(
        self, networks: Mapping[str, Denoiser], latent: Tensor, conditioning: Conditioning, draws: Draws
    ) -> Losses:
        """Losses on a clean latent (b, c, *axes). `networks` holds "student"; distillation adds "teacher", "target"."""


class Pipeline(Configurable, ABC):
    """Prompts -> music. Holds the networks of one system; `max_seconds` is what it was trained to make in one piece."""

    sample_rate: int
    max_seconds: float

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt. An int seeds clip i by (seed, i); a sequence gives each clip its own seed.

        A ValueError for seconds beyond what this system makes, which is more than `max_seconds` where it can go on past
        what it was trained on; or for a guidance scale where the network has it built in.
        """

    def __call__(self, *arguments: Any, **settings: Any) -> GeneratedAudio:
        """The same as `generate`."""
        return self.generate(*arguments, **settings)
