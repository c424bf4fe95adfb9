"""To a compiler each guided pass is one piece, whatever the step: a break in it would be a wait of the GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: here every signature is checked by wrappers that a compiler cannot see through.
SCRIPT = """
import sys
import torch
from torch._dynamo.testing import CompileCounter
from test_denoiser_contract import CASES, DualPathDenoiser, UNet2D, conditioning
from melody_cm.diffusion import Guided, ScaledLinearBetaAngles, TimestepDenoiser

for kind in (DualPathDenoiser, UNet2D):
    arguments, shape = CASES[kind]
    network = kind(**arguments).eval()
    denoiser = network
    if kind is UNet2D:
        denoiser = TimestepDenoiser(network, ScaledLinearBetaAngles(zero_terminal_snr=True), "velocity")
    latent, known = torch.randn(1, *shape), conditioning(1)
    known.num_kept = 1
    guided, counter = Guided(denoiser, 2.5), CompileCounter()
    with torch.no_grad():
        plain = guided(latent, torch.ones(1), known)
        denoiser.compile(backend=counter, fullgraph=True)
        torch.testing.assert_close(guided(latent, torch.ones(1), known), plain)
        guided(latent, torch.full((1,), 0.5), known)
    print(kind.__name__, counter.frame_count)
"""


@pytest.mark.slow
def test_a_guided_pass_is_one_graph_and_the_next_step_is_the_same():
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=folder, check=False)
    assert done.stdout.split() == ["DualPathDenoiser", "1", "UNet2D", "1"], done.stderr[-2000:]
