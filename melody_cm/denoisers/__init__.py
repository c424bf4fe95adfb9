"""Networks that predict velocity (or noise, behind a wrapper of `diffusion`)."""

from melody_cm.denoisers.dual_path import DualPathDenoiser
from melody_cm.denoisers.latent_image import LatentImageUNet
from melody_cm.denoisers.musicldm import MusicLDMUNet, musicldm_teacher
from melody_cm.denoisers.unet1d import UNet1D
from melody_cm.denoisers.unet2d import UNet2D
