import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from melody_cm.nn import BidirectionalSRU, SRULayer


def slow_direction(x, weight, bias, skip, frames):
    """The cell as the paper writes it, one frame at a time."""
    width = skip.shape[-1]
    forget_weight, reset_weight, value_weight = weight
    forget_bias, reset_bias = bias
    state = torch.zeros_like(x[:, 0, :, :1]).expand(-1, -1, width)
    outputs = {}
    for t in frames:
        forget = torch.sigmoid(x[:, t] @ forget_weight.T + forget_bias)
        reset = torch.sigmoid(x[:, t] @ reset_weight.T + reset_bias)
        state = forget * state + (1 - forget) * (x[:, t] @ value_weight.T)
        outputs[t] = reset * state + (1 - reset) * skip[:, t]
    return torch.stack([outputs[t] for t in range(x.shape[1])], dim=1)


def slow_layer(layer, x):
    blocks = layer.weight.split(layer.width)  # forget, reset, value(, skip): each forward, then backward
    bias = layer.gate_bias.split(layer.width)
    skip = x if layer.parts == 3 else x @ torch.cat(blocks[6:8]).T
    results = []
    for direction, frames in enumerate((range(x.shape[1]), reversed(range(x.shape[1])))):
        weight = [blocks[direction], blocks[2 + direction], blocks[4 + direction]]
        own_skip = skip[..., direction * layer.width : (direction + 1) * layer.width]
        results.append(slow_direction(x, weight, (bias[direction], bias[2 + direction]), own_skip, frames))
    return torch.cat(results, dim=-1)


@pytest.mark.parametrize(("in_width", "width", "length"), [(6, 6, 7), (10, 5, 4), (6, 3, 1)])
def test_layer_and_its_gradient_equal_the_slow_loop(in_width, width, length):
    layer = SRULayer(in_width, width).double()
    torch.nn.init.normal_(layer.gate_bias)
    x = torch.randn(2, length, 3, in_width, dtype=torch.float64, requires_grad=True)
    fast, slow = layer(x), slow_layer(layer, x)
    torch.testing.assert_close(fast, slow)
    weights = torch.randn_like(fast)
    inputs = [x, layer.weight, layer.gate_bias]
    expected = torch.autograd.grad((slow * weights).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((fast * weights).sum(), inputs), expected)


def test_only_layers_that_change_the_width_project_their_skip():
    first, second = BidirectionalSRU(8).layers
    assert first.weight.shape == (8 * 8, 8)
    assert second.weight.shape == (6 * 8, 16)


def test_the_stack_sees_the_whole_segment_but_no_other_segment():
    sru = BidirectionalSRU(4)
    x = torch.randn(1, 6, 2, 4, requires_grad=True)
    sru(x)[0, 3, 0].sum().backward()
    touched = x.grad[0].abs().sum(-1) > 0
    assert touched[:, 0].all()
    assert not touched[:, 1].any()


def test_half_precision_input_keeps_its_type_and_a_single_precision_state():
    sru = BidirectionalSRU(8)
    x = torch.randn(1, 64, 1, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = sru(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), sru(x), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("half", [False, True])
def test_a_layer_keeps_no_more_than_its_product_and_its_states(half):
    width, frames = 8, 16 * 4
    layer, x = SRULayer(width, width), torch.randn(1, 16, 4, width, requires_grad=True)
    kept, own = {}, {each.untyped_storage().data_ptr() for each in (x, *layer.parameters())}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda each: each)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=half):
        layer(x)
    found = sum(each.untyped_storage().nbytes() for at, each in kept.items() if at not in own)
    product, states = frames * 8 * width * (2 if half else 4), frames * 2 * width * 4
    cast = (x.numel() + layer.weight.numel()) * 2 if half else 0  # What the product itself keeps.
    assert found == product + states + cast


KERNELS = """
import torch
from melody_cm.nn import recurrent, recurrent_triton as kernels
for width, length in ((6, 7), (3, 1), (80, 3)):
    for kind in (torch.float64, torch.bfloat16):
        inputs = torch.randn(2, length, 3, 8 * width, dtype=kind).split([4 * width, 2 * width, 2 * width], dim=-1)
        output, states = recurrent._loop(*inputs)
        torch.testing.assert_close(kernels.forward(*inputs), (output, states))
        grad = torch.randn_like(output)
        made = kernels.backward(grad, *inputs, states)
        torch.testing.assert_close(made, recurrent._loop_backward(grad, *inputs, states))
print("the same")
"""

# The interpreter takes code that the compiler refuses; the compiler needs no GPU. Gates come in fp32 or bf16.
COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from melody_cm.nn import recurrent_triton as kernels
for kernel in (kernels._forward_kernel, kernels._backward_kernel):
    for kind in ("bf16", "fp32"):
        signature = {name: "i32" for name in kernel.arg_names}
        for name in kernel.arg_names[: kernel.arg_names.index("frames")]:
            signature[name] = "*fp32" if name in ("grad", "outputs", "states") else f"*{kind}"
        signature["block"] = "constexpr"
        source = ASTSource(kernel, signature, {(kernel.arg_names.index("block"),): kernels.BLOCK})
        for capability in (80, 90):
            assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
print("compiled")
"""

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install triton (Linux)"
)


@needs_triton
def test_the_kernels_of_a_gpu_compile():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.stdout == "compiled\n", done.stderr


@needs_triton
def test_the_kernels_of_a_gpu_give_what_the_loop_gives():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # On the CPU; read when triton is imported.
    done = subprocess.run([sys.executable, "-c", KERNELS], capture_output=True, text=True, env=environment)
    assert done.stdout == "the same\n", done.stderr
