"""Networks that predict velocity (or noise, behind a wrapper of `diffusion`)."""

from melody_cm.denoisers.dual_path import DualPathDenoiser
from melody_cm.denoisers.unet2d import UNet2D

__all__ = ["DualPathDenoiser", "UNet2D"]
