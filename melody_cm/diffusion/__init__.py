"""Diffusion over angles: schedules, the process, guidance, objectives and samplers, none of which knows a network."""

from melody_cm.diffusion.angles import GridAngles, LinearAngles, ScaledLinearBetaAngles, UniformAngles
from melody_cm.diffusion.consistency import ConsistencyFunction, ConsistencyObjective
from melody_cm.diffusion.continuation import Continuation
from melody_cm.diffusion.denoising import DenoisingObjective
from melody_cm.diffusion.guidance import Guided
from melody_cm.diffusion.lcm_scheduler import lcm_settings
from melody_cm.diffusion.process import (
    clean_from_velocity,
    ddim_step,
    diffuse,
    velocity,
    velocity_from_noise,
)
from melody_cm.diffusion.samplers import ConsistencySampler, DDIMSampler, FramewiseSampler
from melody_cm.diffusion.shared_restriction import SharedRestriction, select_rows
from melody_cm.diffusion.timesteps import TimestepDenoiser
