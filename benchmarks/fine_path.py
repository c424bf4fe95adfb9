"""Would attention be a faster fine path of the dual-path denoiser than its recurrence?

    python benchmarks/fine_path.py --size cpu --batch 8

Prints seconds of a training step (forward and backward of the whole denoiser) with three fine paths, the best of
several, taking turns; CPU time of the process, so that a busy machine does not decide (wall time on a GPU): the
bidirectional SRU, self-attention with a feed-forward layer of as many parameters, and self-attention alone.

One core of a busy Xeon with AVX-512, fp32, batch 2:

    size    SRU                    with feed-forward      attention alone
    tiny    0.49 M    0.21 s       0.49 M    0.23 s       0.32 M    0.16 s
    cpu     2.53 M    1.21 s       2.52 M    1.32 s       1.62 M    0.81 s

At equal parameters attention is slower than the recurrence; alone it is faster only for being smaller. So the denoiser
has no such switch.
"""

import argparse
import functools
from pathlib import Path

import torch
import yaml
from jaxtyping import Float
from recurrence import milliseconds
from torch import Tensor, nn

from melody_cm.denoisers import DualPathDenoiser
from melody_cm.interfaces import Conditioning
from melody_cm.nn import RotaryAttention, SwiGLU
from melody_cm.runs import Setting

RECIPE = Path(__file__).resolve().parents[1] / "recipes/melody/6_dual_path_diffusion.yaml"
FRAMES = {"tiny": 640, "cpu": 1280, "small": 1280, "paper": 2500}


class AttentionFinePath(nn.Module):
    """Self-attention along the k frames of each of s segments, in the place of `BidirectionalSRU`.

    Args:
        width: of input and output.
        num_heads: of the attention.
        feedforward_width: 0 for attention alone; 6 * width gives the parameters of two bidirectional SRU layers.
    """

    def __init__(self, width: int, num_heads: int, feedforward_width: int) -> None:
        super().__init__()
        self.attention = RotaryAttention(width, num_heads)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.feedforward = SwiGLU(width, feedforward_width) if feedforward_width else None

    def forward(self, x: Float[Tensor, "b k s d"]) -> Float[Tensor, "b k s d"]:
        """(b, k, s, width) -> the same shape."""
        rows = x.transpose(1, 2).flatten(0, 1)
        positions = torch.arange(rows.shape[1], device=x.device, dtype=torch.float32)
        rows = rows + self.attention(rows, rows, positions, positions)
        if self.feedforward is not None:
            rows = rows + self.feedforward(self.norm(rows))
        return rows.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def with_attention(arguments: dict, feedforward_ratio: int) -> DualPathDenoiser:
    """The denoiser with attention in all fine paths."""
    denoiser = DualPathDenoiser(**arguments)
    width = arguments["width"]
    for block in denoiser.blocks:
        block.fine = AttentionFinePath(width, arguments["num_heads"], feedforward_ratio * width)
    return denoiser


def training_step(denoiser: DualPathDenoiser, latent: Tensor, conditioning: Conditioning) -> None:
    """Forward and backward."""
    angle = torch.full((len(latent),), 0.7, device=latent.device)
    denoiser(latent, angle, conditioning).square().mean().backward()


def main() -> None:
    """Time the three on one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=FRAMES, default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    arguments = Setting(options.size).compose(RECIPE).config["model"]["init_args"]["denoiser"]["init_args"]
    print(yaml.safe_dump(arguments, default_flow_style=True).strip())
    denoisers = {
        "SRU": DualPathDenoiser(**arguments).to(device),
        "attention and feed-forward": with_attention(arguments, 6).to(device),
        "attention alone": with_attention(arguments, 0).to(device),
    }
    frames = FRAMES[options.size]
    latent = torch.randn(options.batch, arguments["latent_channels"], frames, device=device)
    tokens = torch.randn(options.batch, frames // 10, arguments["width"], device=device)
    kept = torch.zeros(options.batch, dtype=torch.bool, device=device)
    conditioning = Conditioning(tokens, tokens.mean(1), None, kept)
    times: dict[str, list[float]] = {name: [] for name in denoisers}
    for _ in range(options.repetitions):
        for name, denoiser in denoisers.items():
            step = functools.partial(training_step, denoiser, latent, conditioning)
            times[name].append(milliseconds(step, device) / 1000)
    for name, denoiser in denoisers.items():
        parameters = sum(p.numel() for p in denoiser.parameters()) / 1e6
        print(f"{name:27} {parameters:7.2f} M parameters {min(times[name]):8.3f} s a step")


if __name__ == "__main__":
    main()
