"""The U-Net of a public MusicLDM folder as a teacher (arXiv 2308.01546; MusicCM, arXiv 2404.13358, section 4.1)."""

from typing import Any

import torch

from melody_cm.denoisers.unet2d import VectorConditionedUNet
from melody_cm.diffusion import ScaledLinearBetaAngles, TimestepDenoiser
from melody_cm.nn.clap import ClapText, read_clap_text
from melody_cm.storage import load_part, public_stage, read_scheduler

PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity"}


class MusicLDMUNet(VectorConditionedUNet):
    """A U-Net of public geometry, noise or velocity of (b, c, l, f) given one vector a clip.

    Its null condition is saved with the weights: MusicLDM's is CLAP's vector of the empty text, not zeros.

    Args:
        config: of diffusers' `UNet2DConditionModel`, plain data.

    Raises:
        ValueError: a U-Net that is not told one vector a clip.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from diffusers import UNet2DConditionModel

        _check_layout(config)
        super().__init__(UNet2DConditionModel.from_config(config))
        # Registered again, to be saved.
        self.register_buffer("null_condition", torch.zeros(self.condition_width))


def musicldm_teacher(folder: str) -> TimestepDenoiser:
    """The U-Net of a public MusicLDM folder (its parts `unet`, `scheduler`, `text_encoder` and `tokenizer`), frozen.

    It predicts noise, and so refuses angles beyond the last of its own schedule: schedules and objectives that are used
    with it need `zero_terminal_snr: false`.

    Args:
        folder: in the layout of diffusers, or its id on the model hub (owner/name).

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or is another kind of model.
    """
    network, scheduler = _read_unet(folder), read_scheduler(folder)
    if scheduler["prediction_type"] not in PREDICTIONS or scheduler["beta_schedule"] != "scaled_linear":
        raise ValueError(
            f"{folder}/scheduler has prediction_type {scheduler['prediction_type']} and beta_schedule "
            f"{scheduler['beta_schedule']}; epsilon or v_prediction and scaled_linear are needed"
        )
    schedule = ScaledLinearBetaAngles(
        num_timesteps=scheduler["num_train_timesteps"],
        beta_start=scheduler["beta_start"],
        beta_end=scheduler["beta_end"],
        zero_terminal_snr=scheduler["rescale_betas_zero_snr"],
    )
    denoiser = TimestepDenoiser(network, schedule, PREDICTIONS[scheduler["prediction_type"]])
    origin = {"class_path": "melody_cm.denoisers.musicldm_teacher", "init_args": {"folder": folder}}
    return denoiser.freeze(public_stage(folder), origin)


def _read_unet(folder: str) -> MusicLDMUNet:
    from diffusers import UNet2DConditionModel

    public = load_part(UNet2DConditionModel, folder, "unet")
    network = MusicLDMUNet({name: value for name, value in public.config.items() if not name.startswith("_")})
    network.unet.load_state_dict(public.state_dict())
    network.null_condition.copy_(_null_condition(folder, network.condition_width))
    return network


@torch.no_grad()
def _null_condition(folder: str, width: int) -> torch.Tensor:
    """CLAP's vector of the empty text."""
    arguments, weights = read_clap_text(folder)
    text = ClapText(**arguments)
    text.load_state_dict(weights)
    if text.width != width:
        raise ValueError(
            f"{folder} does not fit together: its text encoder gives vectors of width {text.width}, its U-Net takes "
            f"{width}; download it again"
        )
    return text([""])[0]


def _check_layout(config: dict[str, Any]) -> None:
    kind, width = config.get("class_embed_type"), config.get("projection_class_embeddings_input_dim")
    if kind != "simple_projection" or width is None:
        raise ValueError(
            f"this U-Net has class_embed_type {kind} of width {width}, but MusicLDM's is told one vector a clip by "
            "simple_projection; give a folder of MusicLDM"
        )
