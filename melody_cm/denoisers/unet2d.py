"""The two-dimensional U-Net of MusicLDM, built from diffusers. MusicCM (arXiv 2404.13358), section 4.1."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import Conditioning, TimestepNetwork


class VectorConditionedUNet(TimestepNetwork):
    """A `UNet2DConditionModel` of diffusers that is told one vector a clip beside the timestep, and no tokens.

    `conditioning.pooled` (b, condition_width) is projected and concatenated with the timestep embedding, as in
    MusicLDM; the transformer blocks attend to the latent (b, c, l, f) alone. Both l and f must be divisible by
    2 ** (levels - 1).

    Args:
        unet: with a projected class embedding.

    Attributes:
        null_condition: (condition_width,) what a dropped clip is given.

    Raises:
        ValueError: in `forward`, a latent, timestep or condition of the wrong shape.
    """

    null_condition: Tensor

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.latent_channels: int = unet.config.in_channels
        self.condition_width: int = unet.config.projection_class_embeddings_input_dim
        self.downsampling = 2 ** (len(unet.config.block_out_channels) - 1)
        channels = list(unet.config.block_out_channels)
        self.feature_channels = [*channels, channels[-1]]
        self.register_buffer("null_condition", torch.zeros(self.condition_width), persistent=False)

    def forward(self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning) -> Tensor:
        """What it was trained for, of shape (b, c, l, f); timesteps from 0 (clean) to 999, fractions allowed."""
        pooled = self._pooled(noisy_latent, timestep, conditioning)
        return self.unet(noisy_latent, timestep, encoder_hidden_states=None, class_labels=pooled).sample

    def features(
        self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning
    ) -> list[Float[Tensor, "b c l"]]:
        """What each level of the encoder and the middle give, positions in order of time; the decoder is not run."""
        unet, pooled = self.unet, self._pooled(noisy_latent, timestep, conditioning)
        time = unet.time_embedding(unet.get_time_embed(sample=noisy_latent, timestep=timestep))
        embedding = torch.cat([time, unet.get_class_embed(sample=noisy_latent, class_labels=pooled)], dim=-1)
        hidden, features = unet.conv_in(noisy_latent), []
        for block in unet.down_blocks:
            hidden, _ = block(hidden_states=hidden, temb=embedding)
            features.append(hidden)
        features.append(unet.mid_block(hidden, embedding))
        return [feature.flatten(2) for feature in features]

    def _pooled(
        self, noisy_latent: Tensor, timestep: Float[Tensor, " b"], conditioning: Conditioning
    ) -> Float[Tensor, "b d"]:
        pooled = conditioning.pooled
        self._check(noisy_latent, timestep, pooled)
        return torch.where(conditioning.dropped[:, None], self.null_condition.to(pooled.dtype), pooled).to(
            noisy_latent.dtype
        )

    def _check(self, latent: Tensor, timestep: Tensor, pooled: Tensor | None) -> None:
        if latent.ndim != 4 or latent.shape[1] != self.latent_channels:
            raise ValueError(
                f"a latent of shape {tuple(latent.shape)} cannot be denoised: this network takes (b, c, l, f) with "
                f"c = {self.latent_channels} channels"
            )
        if latent.shape[2] % self.downsampling or latent.shape[3] % self.downsampling:
            raise ValueError(
                f"a latent of {latent.shape[2]} frames and {latent.shape[3]} bins is not divisible by "
                f"{self.downsampling}, the U-Net's downsampling: pad or cut the clip"
            )
        if len(timestep) != len(latent):
            raise ValueError(f"{len(timestep)} timesteps for {len(latent)} clips: give one a clip")
        expected = (len(latent), self.condition_width)
        if pooled is None or pooled.shape != expected:
            shape = None if pooled is None else tuple(pooled.shape)
            raise ValueError(f"conditioning.pooled is {shape}, but this network needs {expected}: fit the conditioner")


class UNet2D(VectorConditionedUNet):
    """Velocity or noise of a mel latent (b, c, l, f), given one vector a clip beside the timestep; zeros where dropped.

    Args:
        latent_channels: c.
        condition_width: of the pooled condition.
        channels: of each level, shallow to deep; multiples of `head_width` on levels with attention.
        layers_per_block: residual blocks a level.
        attention_levels: indices of the levels with self-attention (level i is 2 ** i times smaller); the middle of
            the network always has it.
        head_width: channels of an attention head.

    Raises:
        ValueError: attention on a level that does not exist or that heads do not divide.
    """

    def __init__(
        self,
        latent_channels: int,
        condition_width: int,
        channels: list[int],
        layers_per_block: int,
        attention_levels: list[int],
        head_width: int = 32,
    ) -> None:
        from diffusers import UNet2DConditionModel

        _check_levels(channels, attention_levels, head_width)
        attention = [level in attention_levels for level in range(len(channels))]
        unet = UNet2DConditionModel(
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
            # diffusers takes the number of heads under this name.
            attention_head_dim=tuple(max(1, width // head_width) for width in channels),
            # Without tokens the second attention of each block attends to the latent, whose width it must know.
            cross_attention_dim=tuple(channels),
            norm_num_groups=math.gcd(32, *channels),
            class_embed_type="simple_projection",
            class_embeddings_concat=True,
            projection_class_embeddings_input_dim=condition_width,
        )
        super().__init__(unet)


def _check_levels(channels: list[int], attention_levels: list[int], head_width: int) -> None:
    missing = [level for level in attention_levels if not 0 <= level < len(channels)]
    if missing:
        raise ValueError(
            f"attention_levels {missing} do not exist: {len(channels)} levels are 0 .. {len(channels) - 1}"
        )
    odd = [channels[level] for level in {*attention_levels, len(channels) - 1} if channels[level] % head_width]
    if odd:
        raise ValueError(f"channels {odd} cannot be cut into heads of {head_width}: use multiples of head_width")
