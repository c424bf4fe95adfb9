"""The schedule of a consistency model in the words of diffusers' `LCMScheduler`."""

from typing import Any, Literal

from melody_cm.diffusion.angles import GridAngles, ScaledLinearBetaAngles

# LCMScheduler mixes a little of its input into the clean latent near timestep 0; this factor leaves none above 1e-8.
TIMESTEP_SCALING = 1000.0


def lcm_settings(schedule: GridAngles, prediction: Literal["velocity", "noise"]) -> dict[str, Any]:
    """The configuration with which `LCMScheduler` visits the timesteps of `schedule` and takes the same steps.

    Args:
        schedule: the grid that the model was distilled on.
        prediction: what its network predicts, as in `TimestepDenoiser`.

    Raises:
        ValueError: a grid that LCMScheduler does not know.
    """
    betas = schedule.schedule
    if not isinstance(betas, ScaledLinearBetaAngles) or betas.spacing != "lcm":
        raise ValueError("LCMScheduler only knows grids of ScaledLinearBetaAngles with spacing lcm")
    return {
        "_class_name": "LCMScheduler",
        "num_train_timesteps": betas.num_timesteps,
        "beta_start": betas.init_arguments["beta_start"],
        "beta_end": betas.init_arguments["beta_end"],
        "beta_schedule": "scaled_linear",
        "rescale_betas_zero_snr": betas.zero_terminal_snr,
        "original_inference_steps": schedule.grid_steps,
        "prediction_type": {"velocity": "v_prediction", "noise": "epsilon"}[prediction],
        "timestep_scaling": TIMESTEP_SCALING,
        "clip_sample": False,
        "set_alpha_to_one": True,
    }
