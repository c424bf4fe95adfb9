"""What only a GPU can show; `benchmarks/gpu.sh` runs them. And, without one, that the pieces of that script work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_systems import toy_melody, toy_musiccm

from melody_cm.batch import MusicBatch
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.nn import BidirectionalSRU
from melody_cm.placement import Placement, in_fp32
from melody_cm.signal import MelFrontEnd, MelSettings

ROOT = Path(__file__).resolve().parents[1]
gpu = pytest.mark.gpu
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _only_with_a_gpu(request):
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@gpu
@pytest.mark.parametrize("toy", [toy_musiccm, toy_melody])
def test_diffusion_gives_the_latent_of_the_cpu(toy):
    pipeline = toy()
    conditioning = pipeline.conditioner.embed(torch.zeros(2, 1, 4, dtype=torch.long))
    noise, angle = torch.randn(2, 4, 10), torch.rand(2)
    expected = pipeline.denoiser(noise, angle, conditioning)
    pipeline.to("cuda")
    conditioning = pipeline.conditioner.embed(torch.zeros(2, 1, 4, dtype=torch.long, device=CUDA))
    conditioning.dropped = conditioning.dropped.to(CUDA)  # The toy makes it on the CPU.
    made = pipeline.denoiser(noise.to(CUDA), angle.to(CUDA), conditioning)
    torch.testing.assert_close(made.cpu(), expected, rtol=1e-3, atol=1e-3)


@gpu
def test_a_language_model_writes_the_tokens_of_the_cpu():
    model = CausalTokenLM([Stream("prompt", 2, 8), Stream("semantic", 1, 8)], 32, 2, 2, 64).eval()
    prompt, seeds = torch.zeros(2, 2, 1, dtype=torch.long), [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    expected = model.sample({"prompt": prompt}, 20, seeds, top_k=1)
    made = model.to(CUDA).sample({"prompt": prompt.to(CUDA)}, 20, seeds, top_k=1)
    assert torch.equal(made.cpu(), expected)


@gpu
def test_the_recurrence_has_the_gradient_of_the_cpu():
    layer, x = BidirectionalSRU(8), torch.randn(2, 12, 3, 8)
    layer(x).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.to(CUDA).zero_grad()
    with in_fp32(CUDA):
        layer(x.to(CUDA)).square().sum().backward()
    for parameter, known in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad.cpu(), known, rtol=1e-3, atol=1e-4)


@gpu
def test_mels_are_no_coarser_where_matrix_products_are_tf32():
    front_end, wave = MelFrontEnd(MelSettings(8000, 256, 80, 16, 0.0, 4000.0)), 0.1 * torch.randn(2, 1, 8000)
    expected = front_end(wave)
    Placement.choose("cuda").put([front_end])
    torch.testing.assert_close(front_end(wave.to(CUDA)).cpu(), expected, rtol=0, atol=1e-4)


@gpu
def test_a_batch_moves_without_waiting_and_keeps_its_keys_on_the_cpu():
    item = torch.arange(2)
    batch = MusicBatch(item, item, torch.randn(2, 1, 80), torch.ones(2, 80, dtype=torch.bool), ["", ""]).pin_memory()
    moved = batch.to(CUDA)
    assert (moved.waveform.device.type, moved.item.device.type) == ("cuda", "cpu")
    assert torch.equal(moved.waveform.cpu(), batch.waveform)


@pytest.mark.parametrize("piece", ["machine", pytest.param("melody", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_piece_of_the_gpu_script_runs_dry_and_leaves_its_rows(piece, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), piece, "--out", str(tmp_path), "--dry"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=200)
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["piece"] for row in rows} == {piece}
    assert all(row["value"] > 0 for row in rows[1:])
    assert (tmp_path / "gpu.md").read_text().count("\n") == len(rows) + 2
