"""Sampling with static keys and values, joined matrices and few bits, against transformers' own forward pass."""

import copy
import pickle

import pytest
import torch
from stand_in import DEVICE, StandIn

from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.language_models.cached_llama import joined
from melody_cm.placement import Placement

CPU, SIZE, FRAMES, PROMPT = torch.device("cpu"), 64, 24, 4
FAST = [("bf16", None, 0.99), ("bf16", "int8", 0.99), ("fp32", "int4", 0.95), ("bf16", "int4", 0.95)]


def untrained() -> CausalTokenLM:
    """As training begins: weights of transformers' initialization, normal with a deviation of 0.02."""
    torch.manual_seed(0)
    streams = [Stream("prompt", PROMPT, SIZE), Stream("semantic", 1, SIZE)]
    return CausalTokenLM(streams, 64, num_layers=2, num_heads=2, feedforward_width=128, max_frames=FRAMES).eval()


def walks(batch_size: int) -> dict[str, torch.Tensor]:
    """Codes to learn: one leads to the next by a rule that the prompt chooses; each tenth is any."""
    prompt = torch.randint(SIZE, (batch_size, PROMPT, 1))
    codes = [prompt[:, 0, 0]]
    for _ in range(FRAMES):
        ruled = (codes[-1] * 5 + prompt[:, 1, 0] % 4 + 1) % SIZE
        codes.append(torch.where(torch.rand(batch_size) < 0.1, torch.randint(SIZE, (batch_size,)), ruled))
    return {"prompt": prompt, "semantic": torch.stack(codes[1:], dim=1)[:, None]}


@pytest.fixture(scope="module")
def trained() -> CausalTokenLM:
    model = untrained().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(100):
        loss = model.loss(walks(16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2 < torch.tensor(SIZE).log().item(), "it learned little"
    return model.eval()


@torch.no_grad()
def step_by_step(model: CausalTokenLM, codes: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits (b, l, v) of the target, as they are made while sampling: of one given token after another."""
    tokens, prompt = model.layout.sequence(codes)[:, :-1], PROMPT + 2
    past, head = model.decoder.begin(len(tokens), tokens.shape[1], model.quantization), model._head(0).float()
    parts = [tokens[:, :prompt], *tokens[:, prompt:].split(1, dim=1)]
    return torch.stack([model.decoder(part, past) @ head.T for part in parts], dim=1)


@torch.no_grad()
def plain(model: CausalTokenLM, codes: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same from transformers: the whole sequence at once, the logits of all ids."""
    logits = model.body(input_ids=model.layout.sequence(codes)[:, :-1], use_cache=False).logits
    return logits[:, PROMPT + 1 :, model.layout.ids("semantic", 0)]


def fast(model: CausalTokenLM, precision: str, quantization: str | None) -> CausalTokenLM:
    placed = copy.deepcopy(model)
    Placement(CPU, precision, quantization).put([placed])
    return placed


@pytest.mark.parametrize("kind", ["random", "trained"])
def test_in_fp32_the_steps_are_transformers_own(kind, trained):
    model, codes = untrained() if kind == "random" else trained, walks(4)
    expected = plain(model, codes)
    torch.testing.assert_close(step_by_step(model, codes), expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize(("precision", "quantization", "least"), FAST)
def test_of_trained_weights_the_likeliest_token_is_that_of_fp32(precision, quantization, least, trained):
    codes = walks(64)
    expected, made = plain(trained, codes), step_by_step(fast(trained, precision, quantization), codes)
    assert not torch.equal(made, expected)
    assert (made.argmax(-1) == expected.argmax(-1)).float().mean() >= least


@pytest.mark.parametrize(("precision", "quantization", "least"), FAST)
def test_of_random_weights_the_likeliest_token_is_that_of_fp32_where_it_leads(precision, quantization, least):
    """Random weights leave all 64 codes about as likely, and in a quarter of all places the first two are closer than
    the 8 % by which 4 bits change the logits: no rounding of Gaussian weights to 4 bits (at least 6 % each, by rate and
    distortion) could keep 95 % of those. So only tokens count that lead by half a deviation of the logits; and what is
    sampled from must be the same for all places but for one draw in a hundred."""
    model, codes = untrained(), walks(128)
    expected, made = plain(model, codes), step_by_step(fast(model, precision, quantization), codes)
    first, second = expected.topk(2).values.unbind(-1)
    leads = first - second > 0.5 * expected.std()
    assert 0.1 < leads.float().mean() < 0.5
    same = made.argmax(-1) == expected.argmax(-1)
    assert same[leads].float().mean() >= least
    assert same.float().mean() >= (0.85 if quantization == "int4" else 0.98)
    assert (made.softmax(-1) - expected.softmax(-1)).abs().sum(-1).mean() / 2 < 0.01


def test_sampling_leaves_the_weights_and_their_names_as_they_were():
    for quantization in (None, "int8", "int4"):
        model = untrained()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.quantization = quantization
        drawn = model.sample({"prompt": walks(2)["prompt"]}, 3, [torch.Generator().manual_seed(i) for i in range(2)])
        after = model.state_dict()
        assert drawn.shape == (2, 1, 3)
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
def test_weights_that_change_after_sampling_are_heard(quantization):
    model, codes = untrained(), walks(2)
    model.quantization = quantization
    first = step_by_step(model, codes)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.body.model.layers.parameters():
            weight.mul_(1.5)
    fresh = untrained()
    fresh.load_state_dict(model.state_dict())
    fresh.quantization = quantization
    assert torch.equal(step_by_step(model, codes), step_by_step(fresh, codes))
    assert not torch.allclose(step_by_step(model, codes), first)
    torch.testing.assert_close(step_by_step(twin, codes), first)  # A copy has weights of its own.
    model.load_state_dict(twin.state_dict())
    torch.testing.assert_close(step_by_step(model, codes), first)


def test_joined_matrices_share_memory_with_their_parts():
    parts = [torch.nn.Parameter(torch.randn(rows, 3)) for rows in (2, 4, 1)]
    expected = torch.cat([part.detach() for part in parts])
    whole = joined(parts)
    assert torch.equal(whole, expected)
    assert joined(parts).data_ptr() == whole.data_ptr(), "they lie together already"
    with torch.no_grad():
        parts[1].fill_(7)
    assert (whole[2:6] == 7).all()
    parts[1].data = torch.zeros(4, 3)  # As `.to` does.
    assert torch.equal(joined(parts), torch.cat([expected[:2], torch.zeros(4, 3), expected[6:]]))


def test_quantized_weights_are_packed_once(monkeypatch):
    model, codes = untrained(), walks(2)
    model.quantization = "int4"
    step_by_step(model, codes)
    monkeypatch.setattr("melody_cm.language_models.cached_llama.linear_map", lambda *_: pytest.fail("packed again"))
    step_by_step(model, codes)
    pickle.dumps(model)  # As worker processes are given it: without what is packed, which cannot be written.


def test_a_gpu_is_waited_for_as_often_for_many_tokens_as_for_few():
    model, prompt = untrained(), walks(2)["prompt"]
    expected, waits = model.sample({"prompt": prompt}, 9, [torch.Generator().manual_seed(row) for row in range(2)]), []
    with StandIn() as stand_in:
        model.to(DEVICE)
        for length in (2, 9):
            rows = [torch.Generator().manual_seed(row) for row in range(2)]
            with stand_in.counting() as counted:
                drawn = model.sample({"prompt": prompt.to(DEVICE)}, length, rows)
            waits.append(counted.total())
        assert torch.equal(drawn.cpu(), expected)
    assert waits[0] == waits[1] == 4, "the ranges of the given and the drawn codes are looked at, and nothing else"
