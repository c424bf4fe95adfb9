"""What the encoder of a diffusers U-Net sees in a latent, as features for discriminator heads."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def unet_features(
    unet: Any, noisy_latent: Float[Tensor, "b c l f"], timestep: Float[Tensor, " b"], class_labels: Float[Tensor, "b d"]
) -> list[Float[Tensor, "b width positions"]]:
    """The output of every encoder level and of the middle, positions in order of time; the decoder is not run.

    Args:
        unet: a `UNet2DConditionModel` without tokens, whose class embedding is concatenated with the timestep's.
    """
    time = unet.time_embedding(unet.get_time_embed(sample=noisy_latent, timestep=timestep))
    embedding = torch.cat([time, unet.get_class_embed(sample=noisy_latent, class_labels=class_labels)], dim=-1)
    hidden = unet.conv_in(noisy_latent)
    features = []
    for block in unet.down_blocks:
        hidden, _ = block(hidden_states=hidden, temb=embedding)
        features.append(hidden)
    features.append(unet.mid_block(hidden, embedding))
    return [feature.flatten(2) for feature in features]
