"""The diffusion process as a rotation of latent and noise, computed in fp32 whatever precision the network has.

MeLoDy (arXiv 2305.15719), appendix A.1-A.3; every DDPM is the same process with `cos(angle) = sqrt(alpha_bar)`.
Angles are (b,), or (b, l) with one for each frame of a latent (b, c, l) or (b, c, l, f).
"""

from jaxtyping import Float, Shaped
from torch import Tensor

from melody_cm.interfaces import Angle
from melody_cm.placement import at_least_fp32

Latent = Float[Tensor, "b c *axes"]


def over_latent(values: Shaped[Tensor, "b *l"], latent: Latent) -> Tensor:
    """One value a clip (b,) or a frame (b, l), shaped to go with a latent (b, c, l, ...)."""
    values = values[:, None] if values.ndim == 2 else values
    return values.reshape(*values.shape, *[1] * (latent.ndim - values.ndim))


def _cos_sin(angle: Angle, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle, shaped and typed to multiply the latent."""
    angle = over_latent(at_least_fp32(angle), latent)
    return angle.cos().to(latent.dtype), angle.sin().to(latent.dtype)


def _combine(first: Tensor, second: Tensor, angle: Angle, sign: int) -> Tensor:
    """`cos(angle) * first + sign * sin(angle) * second`: one side of a rotation."""
    first, second = at_least_fp32(first), at_least_fp32(second)
    cos, sin = _cos_sin(angle, first)
    return cos * first + sign * sin * second


def diffuse(latent: Latent, noise: Latent, angle: Angle) -> Latent:
    """The noisy latent at an angle; at angle 0 the latent itself, bit for bit."""
    return _combine(latent, noise, angle, +1)


def velocity(latent: Latent, noise: Latent, angle: Angle) -> Latent:
    """What denoisers predict: the derivative of the noisy latent by the angle."""
    return _combine(noise, latent, angle, -1)


def clean_from_velocity(noisy: Latent, velocity: Latent, angle: Angle) -> Latent:
    """The clean latent that a noisy latent and its velocity imply."""
    return _combine(noisy, velocity, angle, -1)


def velocity_from_noise(noisy: Latent, noise: Latent, angle: Angle) -> Latent:
    """The velocity that a noisy latent and its noise imply; undefined at pi/2, where the latent has left no trace."""
    noisy, noise = at_least_fp32(noisy), at_least_fp32(noise)
    cos, sin = _cos_sin(angle, noisy)
    return (noise - sin * noisy) / cos


def ddim_step(noisy: Latent, velocity: Latent, angle_from: Angle, angle_to: Angle) -> Latent:
    """One deterministic step: the noisy latent rotated to another angle as if its velocity were exact."""
    return _combine(noisy, velocity, at_least_fp32(angle_from) - at_least_fp32(angle_to), -1)
