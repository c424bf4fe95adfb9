"""The two-dimensional U-Net of MeLoDy's ablation: a waveform latent as an image. MeLoDy (2305.15719), appendix E.

The paper names the body (Riffusion's, that of Stable Diffusion) and about 300 M parameters, no shapes; these are ours.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.denoisers.token_condition import angle_channels, check_input
from melody_cm.interfaces import Angle, Conditioning, Denoiser


class LatentImageUNet(Denoiser):
    """Velocity of a waveform latent (b, c, l), any l, seen as an image c high and l wide, by a diffusers U-Net.

    The image has three colours: the latent, and the sine and cosine of each frame's angle. The body, which takes one
    timestep, is told the clip's mean angle, pi/2 being timestep 1000. `conditioning.sequence` (b, n, condition_width)
    is attended to on the two lowest levels and in the middle; `conditioning.pooled` (b, condition_width), its mean, is
    a class embedding, added to the timestep's. A dropped clip is given zeros for both. Every level below the first is
    half as high and half as wide; the image is padded with zeros to suit.

    Args:
        latent_channels: c.
        condition_width: of tokens and pooled vector.
        channels: of each level, shallow to deep; at least two; the two lowest, multiples of `head_width`.
        layers_per_block: residual blocks a level.
        head_width: channels of an attention head.

    Raises:
        ValueError: fewer than two levels, channels that heads do not divide, or a latent, angle or condition of the
            wrong shape.
    """

    per_frame_angles = True

    def __init__(
        self, latent_channels: int, condition_width: int, channels: list[int], layers_per_block: int, head_width: int
    ) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        if len(channels) < 2 or any(width % head_width for width in channels[-2:]):
            raise ValueError(
                f"channels {channels} need two levels or more, the two lowest multiples of head_width {head_width}"
            )
        self.latent_channels, self.condition_width = latent_channels, condition_width
        self.downsampling = 2 ** (len(channels) - 1)
        plain = len(channels) - 2
        self.unet = UNet2DConditionModel(
            in_channels=3,
            out_channels=1,
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * plain,
            mid_block_type="UNetMidBlock2DCrossAttn",
            # diffusers takes the number of heads under this name.
            attention_head_dim=tuple(max(1, width // head_width) for width in channels),
            cross_attention_dim=condition_width,
            norm_num_groups=math.gcd(32, *channels),
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=condition_width,
        )
        # Close to zero, the best constant guess; not zero, so that every layer learns from the first step on.
        nn.init.normal_(self.unet.conv_out.weight, std=0.1 / (9 * channels[0]) ** 0.5)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        check_input(noisy_latent, angle, conditioning, self.latent_channels, self.condition_width)
        height, length = noisy_latent.shape[1:]
        dropped, mask = conditioning.dropped, conditioning.mask
        velocity = self.unet(
            self._image(noisy_latent, angle),
            angle.reshape(len(angle), -1).mean(1) * (1000 / (math.pi / 2)),
            encoder_hidden_states=torch.where(dropped[:, None, None], 0.0, conditioning.sequence),
            class_labels=torch.where(dropped[:, None], 0.0, conditioning.pooled).to(noisy_latent.dtype),
            # The mask of a dropped clip, too, would tell of its tokens.
            encoder_attention_mask=None if mask is None else mask | dropped[:, None],
        ).sample
        return velocity[:, 0, :height, :length]

    def _image(self, latent: Float[Tensor, "b c l"], angle: Angle) -> Float[Tensor, "b 3 padded_c padded_l"]:
        height, length = latent.shape[1:]
        angles = angle_channels(angle, length).to(latent.dtype)[:, :, None].expand(-1, -1, height, -1)
        image = torch.cat([latent[:, None], angles], dim=1)
        return F.pad(image, (0, -length % self.downsampling, 0, -height % self.downsampling))
