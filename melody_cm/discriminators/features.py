"""Light heads on a frozen network's features (MusicCM, arXiv 2404.13358, section 3.2; heads after arXiv 2301.09515)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from melody_cm.diffusion import diffuse
from melody_cm.interfaces import AngleSchedule, Discriminator, DiscriminatorContext, DiscriminatorOutput, FeatureNetwork
from melody_cm.randomness import Draws

SLOPE = 0.2
KERNEL = 9  # Positions that the residual convolution of a head sees.
GROUPS = 8


class FeatureDiscriminator(Discriminator):
    """One judge a layer of a frozen network that hears latents (b, c, *axes), usually the teacher's encoder.

    Real and generated latents get the same noise of a random angle first: the teacher knows no clean ones, and what it
    sees at each angle differs. Judges are told the pooled conditioning and what the network makes of the real latent,
    the latter as zeros where the generator had noise alone, and could know nothing of it.

    Args:
        features: the frozen network; it never learns, but gradients of the generator pass through it.
        schedule: noise levels at which it hears (its `training_angles`); None for a network that knows no noise.
        condition_width: of the pooled conditioning.
        width: channels inside a head, a multiple of 8.
        projection_width: of the space in which a position and its condition are compared.

    Raises:
        ValueError: a network without features, a width of no whole groups, or samples without context.
    """

    def __init__(
        self,
        features: FeatureNetwork,
        schedule: AngleSchedule | None,
        condition_width: int,
        width: int = 256,
        projection_width: int = 64,
    ) -> None:
        super().__init__()
        channels = list(features.feature_channels)
        if not channels:
            raise ValueError(f"{type(features).__name__} has no features for a discriminator; give another network")
        if width % GROUPS:
            raise ValueError(f"width {width} of the heads must be a multiple of {GROUPS}")
        self.features = features
        self.schedule = schedule
        self.condition_width = condition_width
        condition_width += channels[-1]
        self.heads = nn.ModuleList(Head(each, condition_width, width, projection_width) for each in channels)

    def forward(
        self, sample: Float[Tensor, "b c *axes"], context: DiscriminatorContext | None = None
    ) -> list[DiscriminatorOutput]:
        if context is None:
            raise ValueError("this discriminator needs the context of a sample: use it where latents are made")
        heard = self._hear(sample, context)
        if not sample.requires_grad:
            # Cut off here, so that a penalty on the heads' gradient ends at their input.
            heard = [feature.detach().requires_grad_(torch.is_grad_enabled()) for feature in heard]
        condition = self._condition(sample, heard, context)
        heads = zip(self.heads, heard, strict=True)
        return [DiscriminatorOutput(head(feature, condition), [feature]) for head, feature in heads]

    def _hear(self, sample: Float[Tensor, "b c *axes"], context: DiscriminatorContext) -> list[Float[Tensor, "b _ _"]]:
        angle, noise = self._noise(context.draws, sample)
        with torch.set_grad_enabled(sample.requires_grad and torch.is_grad_enabled()):
            heard = self.features.features(diffuse(sample, noise, angle), angle, context.conditioning)
        return [feature.float() for feature in heard]

    def _noise(self, draws: Draws, sample: Float[Tensor, "b c *axes"]) -> tuple[Float[Tensor, " b"], Tensor]:
        uniform = draws.uniform("discriminator_angle")
        angle = torch.zeros_like(uniform) if self.schedule is None else self.schedule.training_angles(uniform)
        return angle.to(sample.device), draws.normal("discriminator_noise", sample.shape[1:], sample.device)

    def _condition(
        self, sample: Tensor, heard: list[Float[Tensor, "b _ _"]], context: DiscriminatorContext
    ) -> Float[Tensor, "b d"]:
        pooled = self._pooled(context)
        with torch.no_grad():
            if "summary" not in context.kept:
                deepest = heard[-1] if sample is context.reference else self._hear(context.reference, context)[-1]
                summary = standardize(deepest.detach().mean(-1))
                context.kept["summary"] = summary.masked_fill(context.from_noise[:, None], 0)
        return torch.cat([standardize(pooled.float()), context.kept["summary"]], dim=1)

    def _pooled(self, context: DiscriminatorContext) -> Float[Tensor, "b e"]:
        pooled = context.conditioning.pooled
        if pooled is None or pooled.shape[1] != self.condition_width:
            width = None if pooled is None else pooled.shape[1]
            raise ValueError(
                f"the pooled conditioning has width {width} but the discriminator takes {self.condition_width}; set "
                "its condition_width to the conditioner's width"
            )
        return pooled


class Head(nn.Module):
    """Features (b, c, l) of one layer and a condition (b, d) -> one logit a position (b, l)."""

    def __init__(self, channels: int, condition_width: int, width: int, projection_width: int) -> None:
        super().__init__()
        self.first = _block(channels, width, 1)
        self.second = _block(width, width, KERNEL)
        self.output = spectral_norm(nn.Conv1d(width, projection_width, 1))
        self.condition = nn.Linear(condition_width, projection_width)

    def forward(self, features: Float[Tensor, "b c l"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b l"]:
        hidden = self.first(features)
        hidden = (hidden + self.second(hidden)) / math.sqrt(2)
        projected = self.output(hidden)
        return (projected * self.condition(condition)[:, :, None]).sum(1) / math.sqrt(projected.shape[1])


def _block(channels: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv1d(channels, width, kernel, padding=kernel // 2, padding_mode="circular")
    return nn.Sequential(spectral_norm(convolution), nn.GroupNorm(GROUPS, width), nn.LeakyReLU(SLOPE))


def standardize(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Each vector with zero mean and unit variance over its entries."""
    return F.layer_norm(vectors, vectors.shape[1:])
