"""The seams of what judges sound, discriminators and embeddings for distances; axes as in `interfaces.py`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from melody_cm.network import Configurable, Network
from melody_cm.randomness import Draws
from melody_cm.values import Angle, Conditioning


class FeatureNetwork(ABC):
    """A network whose hidden features discriminator heads can read.

    `feature_channels`: c of each of its features, shallow to deep; empty if it turns out to have none.
    """

    feature_channels: Sequence[int] = ()

    @abstractmethod
    def features(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> list[Float[Tensor, "b c l"]]:
        """Hidden features, shallow to deep."""


class DiscriminatorOutput(NamedTuple):
    """What one discriminator says of a batch: `logits` (b, n), high for real music, and its hidden `feature_maps`."""

    logits: Float[Tensor, "b n"]
    feature_maps: list[Tensor]


DiscriminatorOutputs = Sequence[DiscriminatorOutput]


@dataclass
class DiscriminatorContext:
    """What a discriminator may know beside the sample, the same for a real and a generated one.

    Attributes:
        conditioning: of the clips.
        reference: (b, c, *axes) that is real.
        from_noise: (b,) where the generator was given noise alone.
        draws: of the batch.
        kept: what a discriminator made of the reference and wants again in this step, without gradient.
    """

    conditioning: Conditioning
    reference: Tensor
    from_noise: Tensor
    draws: Draws
    kept: dict[str, Tensor] = field(default_factory=dict)


class Discriminator(Network, ABC):
    """Tells real from generated samples; one may hold several sub-discriminators."""

    @abstractmethod
    def forward(self, sample: Tensor, context: DiscriminatorContext | None = None) -> list[DiscriminatorOutput]:
        """One output for each sub-discriminator, of samples (b, ...); `context` is None where the stage gives none."""


class AdversarialLoss(Configurable, ABC):
    """What a discriminator and a generator learn from the discriminator's outputs for real and generated samples.

    `compares`: whether the generator's loss looks at the outputs for real samples.
    """

    compares: bool = True

    @abstractmethod
    def discriminator(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> dict[str, Tensor]:
        """Scalar terms whose sum the discriminator makes small."""

    @abstractmethod
    def generator(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> dict[str, Tensor]:
        """Weighted scalar terms that the generator adds to its other losses; `real` is a target, without gradient."""


@dataclass(frozen=True)
class EmbeddingIdentity:
    """What decides the numbers of an audio embedding: distances of unlike identities must never be compared.

    Attributes:
        name: short form in metric keys (`fad_<name>`).
        version: of the code that computes it.
        weights: hash of its weights, "none" for hand-made features.
        sample_rate: Hz that it hears; resampler: what brings other rates there.
        window: how audio is cut into analysis frames, in words.
        width: d of its vectors.
        trained: False for hand-made features.
    """

    name: str
    version: str
    weights: str
    sample_rate: int
    window: str
    width: int
    trained: bool
    resampler: str = "soxr HQ"

    def __str__(self) -> str:
        weights = "hand-made" if self.weights == "none" else f"weights {self.weights[:12]}"
        return f"{self.name}/{self.version} ({weights}, {self.window}, {self.sample_rate} Hz by {self.resampler})"


class AudioEmbedding(Network, ABC):
    """Waveform -> embedding vectors for Frechet and kernel distances; its constructor sets `identity`.

    Of a tagger `tags` are the names of what the numbers of its vectors are logits of.
    """

    identity: EmbeddingIdentity
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The short form in metric keys."""
        return self.identity.name

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return self.identity.sample_rate

    @property
    def width(self) -> int:
        """d of its vectors."""
        return self.identity.width

    @abstractmethod
    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        """One embedding for each analysis frame."""
