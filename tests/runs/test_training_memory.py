"""The memory of a training step, counted on `meta`, is what the step takes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from melody_cm.denoisers import DualPathDenoiser
from melody_cm.interfaces import Conditioning
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.runs import Setting
from melody_cm.runs.memory import AsOnGPU, LiveBytes, Memory, num_processes, stage_on_meta, training_memory
from melody_cm.runs.plan import learning_parameters


def memory_of(name: str, setting: Setting) -> Memory | None:
    recipe = setting.compose(name)
    return training_memory(stage_on_meta(recipe, setting), recipe)


def allocated_at_most(work) -> int:
    """The most bytes that the allocator of the CPU ever had given out during `work`, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    now = most = 0
    for each in sorted(events, key=lambda event: event.start_ns()):
        now += each.nbytes()
        most = max(most, now)
    return most


def dual_path(checkpointing: bool):
    network = DualPathDenoiser(4, 32, 4, 16, 2, 64, 8, checkpointing=checkpointing)
    tokens, dropped = torch.randn(3, 20, 32), torch.zeros(3, dtype=torch.bool)
    latent, angle = torch.randn(3, 4, 300), torch.rand(3)

    def step():
        device = next(network.parameters()).device
        given = Conditioning(tokens.to(device), tokens.mean(1).to(device), None, dropped.to(device), len(dropped))
        network(latent.to(device), angle.to(device), given).square().mean().backward()

    return network, step


def language_model(checkpointing: bool):
    streams = [Stream("semantic", 1, 50), Stream("coarse", 4, 60)]
    network = CausalTokenLM(streams, 64, 4, 4, 160, max_frames=60, checkpointing=checkpointing)
    codes = {"semantic": torch.randint(50, (3, 1, 30)), "coarse": torch.randint(60, (3, 4, 60))}

    def step():
        device = next(network.parameters()).device
        network.loss({name: each.to(device) for name, each in codes.items()}).backward()

    return network, step


@pytest.mark.parametrize("made", [dual_path, language_model])
def test_a_step_on_meta_takes_what_the_same_step_takes_of_the_cpu(made):
    counts = {}
    for checkpointing in (False, True):
        network, step = made(checkpointing)
        step()  # What is done for the first time.
        network.zero_grad(set_to_none=True)
        real = allocated_at_most(step)
        network.zero_grad(set_to_none=True)
        network.to("meta")
        with AsOnGPU(), LiveBytes(network.parameters()) as live:
            step()
        assert live.peak == pytest.approx(real, rel=0.1)  # What passes by inside an operation is not seen.
        counts[checkpointing] = live.peak
    assert counts[True] < 0.7 * counts[False]


def test_a_gradient_that_is_kept_counts_and_what_is_gone_does_not():
    weight = torch.nn.Parameter(torch.empty(1000, device="meta"))
    with LiveBytes([weight]) as live:
        (weight * 2).exp().sum().backward()
        assert weight.grad is not None
        assert live.now == 4000
        weight.grad = None
        assert live.now == 0
    assert live.peak >= 8000, "the exponential, kept, and what it is of"


def test_a_recipe_counts_weights_moments_and_the_share_of_each_process():
    one = Setting("tiny")
    eight = Setting("tiny", "ddp", overrides=["--trainer.devices=8", "--trainer.precision=32-true"])
    recipe = one.compose("melody/6_dual_path_diffusion")
    alone, shared = (memory_of(recipe.name, each) for each in (one, eight))
    learning = 4 * learning_parameters(stage_on_meta(recipe, one))
    assert alone.moments == shared.moments == 2 * learning
    assert (alone.exchange, shared.exchange) == (0, learning)
    assert alone.weights == shared.weights >= 2 * learning  # The average, and the frozen autoencoder.
    assert learning < shared.step < alone.step / 4
    half = Setting("tiny", overrides=["--trainer.precision=bf16-mixed"])
    assert memory_of(recipe.name, half).step < 0.8 * alone.step
    assert memory_of("melody/3_joint_tokenizer", one) is None


@pytest.mark.parametrize(("trainer", "count"), [({}, 1), ({"devices": 4, "num_nodes": 2}, 8), ({"devices": [0, 3]}, 2)])
def test_a_trainer_says_how_many_processes_there_are(trainer, count):
    assert num_processes(trainer) == count


@pytest.mark.parametrize(
    "name", ["melody/6_dual_path_diffusion", pytest.param("musiclm/2_coarse_lm", marks=pytest.mark.slow)]
)
def test_the_recipes_of_the_papers_fit_eight_gpus_of_80_gb(name):
    setting = Setting("paper", "ddp", overrides=["--trainer.devices=8"])
    assert memory_of(name, setting).total < 75 * 2**30
