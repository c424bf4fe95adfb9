"""Train a denoiser of one's own in the place of MeLoDy's.

    python examples/own_network.py              # size tiny: minutes on 2 cores; the music is noise-like
    python examples/own_network.py --trainer.max_steps 2

Nothing is registered anywhere: a recipe names the class by its path, `own_network.GatedDenoiser`. A test runs this.
"""

import json
import sys

import torch
from torch import Tensor, nn

import melody_cm
from melody_cm.interfaces import Angle, Conditioning, Denoiser

NETWORK = {
    "class_path": "own_network.GatedDenoiser",
    # The first two are those of size tiny.
    "init_args": {"latent_channels": 8, "condition_width": 48, "channels": 64, "num_layers": 6},
}
NEEDED = ["melody/2_semantic_tokenizer", "melody/5_audio_vae_gan"]


class GatedDenoiser(Denoiser):
    """Velocity of a latent by gated, dilated convolutions along time (WaveNet, arXiv 1609.03499, section 2.3).

    Args:
        latent_channels: c of the latent (b, c, l).
        condition_width: d of `conditioning.pooled` (b, d).
        channels: of the hidden layers.
        num_layers: layer i looks 2 ** i frames to either side.
    """

    per_frame_angles = True  # A frame at angle 0 is known and clean, so that music can be continued and inpainted.

    def __init__(self, latent_channels: int, condition_width: int, channels: int, num_layers: int) -> None:
        super().__init__()
        self.input = nn.Conv1d(latent_channels + 2, channels, 1)
        self.condition = nn.Linear(condition_width, channels)
        dilations = [2**layer for layer in range(num_layers)]
        self.layers = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 3, padding=d, dilation=d) for d in dilations)
        self.output = nn.Conv1d(channels, latent_channels, 1)

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        """The velocity, of the shape of the latent; angles are (b,) or one a frame (b, l)."""
        angle = angle if angle.ndim == 2 else angle[:, None].expand(-1, noisy_latent.shape[-1])
        angles = torch.stack([angle.cos(), angle.sin()], dim=1).to(noisy_latent.dtype)
        # Where the condition is dropped nothing of it may be left: guidance compares with that.
        told = torch.where(conditioning.dropped[:, None], 0.0, conditioning.pooled)
        hidden = self.input(torch.cat([noisy_latent, angles], dim=1)) + self.condition(told)[..., None]
        for layer in self.layers:
            hidden = hidden + nn.functional.glu(layer(hidden), dim=1)
        return self.output(hidden)


def main(run: str = "runs/own_network", overrides: list[str] | None = None) -> None:
    """Train what the denoiser needs, then the denoiser; what is finished is skipped."""
    overrides = overrides or []
    for stage in NEEDED:
        melody_cm.train(stage, run, "tiny", overrides=overrides)
    own = [f"--model.denoiser={json.dumps(NETWORK)}"]
    trained = melody_cm.train("melody/6_dual_path_diffusion", run, "tiny", overrides=[*overrides, *own])
    print(f"the network: {trained.folder('melody/6_dual_path_diffusion')}/export/denoiser")


if __name__ == "__main__":
    main(overrides=sys.argv[1:])
