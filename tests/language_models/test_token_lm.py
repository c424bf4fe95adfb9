import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from melody_cm.language_models import CausalTokenLM, Stream, token_lm
from melody_cm.storage import build, load_network, save_network

LAYOUTS = {
    "melody": [("prompt", 3, 5), ("semantic", 1, 7)],
    "coarse": [("prompt", 3, 5), ("semantic", 1, 7), ("coarse", 4, 6)],
    "fine": [("coarse", 4, 6), ("fine", 8, 6)],
    "unprompted": [("semantic", 1, 7)],
}


def streams_of(kind: str) -> list[Stream]:
    return [Stream(*stream) for stream in LAYOUTS[kind]]


@pytest.fixture(params=list(LAYOUTS))
def model(request) -> CausalTokenLM:
    return tiny(request.param)


def tiny(kind: str) -> CausalTokenLM:
    model = CausalTokenLM(streams_of(kind), 32, num_layers=2, num_heads=2, feedforward_width=48, max_frames=12)
    for weight in model.body.parameters():  # Far from uniform, so that there is something to tell apart.
        torch.nn.init.normal_(weight, std=0.15 if weight.ndim > 1 else 1.0)
    return model.eval()


def codes_for(model: CausalTokenLM, batch: int, frames: int = 6) -> dict[str, torch.Tensor]:
    streams = model.layout.streams.values()
    return {s.name: torch.randint(s.codebook_size, (batch, s.num_codebooks, frames)) for s in streams}


def prompt_of(model: CausalTokenLM, codes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in codes.items() if name != model.layout.target.name}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("name", "vocabulary", "tokens"), [("semantic", 13315, 250), ("coarse", 17411, 2000), ("fine", 12291, 1200)]
)
def test_the_presets_have_the_papers_sizes(name, vocabulary, tokens):
    preset = Path(__file__).resolve().parents[2] / f"configs/language_model/{name}.yaml"
    with torch.device("meta"):
        model = build(yaml.safe_load(preset.read_text()))
    assert model.layout.vocabulary_size == vocabulary
    assert model.max_frames * model.layout.target.num_codebooks == tokens
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(429.5e6 if name == "semantic" else 430e6, rel=0.01 if name == "semantic" else 0.02)
    assert count == 2 * vocabulary * 1024 + 24 * (4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024) + 1024


def test_logits_are_those_of_the_whole_sequence_at_legal_ids_and_none_elsewhere(model):
    codes = codes_for(model, 2)
    target = model.layout.target
    tokens = model.layout.sequence(codes)
    length = 6 * target.num_codebooks
    expected = model.body(input_ids=tokens).logits[:, -length - 1 : -1]
    legal = model.layout.legal(target.name, length)
    logits = model.logits(codes)
    torch.testing.assert_close(logits[:, legal], expected[:, legal])
    assert bool((logits[:, ~legal] == -torch.inf).all())


def test_a_token_s_logits_do_not_know_it_or_what_follows(model):
    codes = codes_for(model, 1)
    name, count = model.layout.target.name, model.layout.target.num_codebooks
    changed = {**codes, name: codes[name].clone()}
    changed[name][:, 0, 3] = (changed[name][:, 0, 3] + 1) % model.layout.target.codebook_size
    before, after = model.logits(codes), model.logits(changed)
    torch.testing.assert_close(before[:, : 3 * count + 1], after[:, : 3 * count + 1])
    assert not torch.allclose(before[:, 3 * count + 1], after[:, 3 * count + 1])


def test_the_loss_is_the_cross_entropy_of_the_logits_on_the_target_alone(model):
    codes = codes_for(model, 3)
    tokens = model.layout.tokens(model.layout.target.name, codes[model.layout.target.name])
    expected = F.cross_entropy(model.logits(codes).flatten(0, 1), tokens.flatten())
    torch.testing.assert_close(model.loss(codes), expected)


def test_a_model_that_knows_nothing_pays_for_legal_ids_only():
    model = tiny("coarse")
    torch.nn.init.zeros_(model.body.lm_head.weight)
    assert model.loss(codes_for(model, 2)).item() == pytest.approx(math.log(6), rel=1e-5)


def test_cached_logits_are_those_without_a_cache(model, monkeypatch):
    steps = []

    def record(logits, *settings):
        steps.append(logits)
        return recorded(logits, *settings)

    recorded = token_lm.probabilities
    monkeypatch.setattr(token_lm, "probabilities", record)
    prompt = prompt_of(model, codes_for(model, 3))
    codes = model.sample(prompt, 8, generators(1, 2, 3))
    target = model.layout.target
    assert codes.shape == (3, target.num_codebooks, 8)
    uncached = model.logits({**prompt, target.name: codes})
    legal = model.layout.legal(target.name, uncached.shape[1])
    assert len(steps) == uncached.shape[1]
    for step, cached in enumerate(steps):
        torch.testing.assert_close(cached, uncached[:, step, legal[step]], atol=1e-4, rtol=1e-4)


def test_sampling_calls_the_network_once_a_token(model, monkeypatch):
    widths = []
    model.pass_module.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    prompt = prompt_of(model, codes_for(model, 2))
    model.sample(prompt, 5, generators(1, 2))
    assert len(widths) == 5 * model.layout.target.num_codebooks
    assert set(widths[1:]) == {1}


def test_a_row_alone_is_the_row_in_the_batch(model):
    codes = codes_for(model, 8)
    prompt = prompt_of(model, codes)
    together = model.sample(prompt, 10, generators(*range(8)))
    for row in range(8):
        alone = model.sample({name: value[row : row + 1] for name, value in prompt.items()}, 10, generators(row))
        assert torch.equal(together[row : row + 1], alone)
    assert not torch.equal(together, model.sample(prompt, 10, generators(*range(8, 16))))


def test_samples_follow_the_model_s_distribution():
    model = tiny("melody")
    codes = codes_for(model, 1)
    prompt = {"prompt": codes["prompt"].expand(3000, -1, -1)}
    drawn = model.sample(prompt, 1, generators(*range(3000)), temperature=0.8)
    logits = model.logits({**codes, "semantic": torch.zeros(1, 1, 1, dtype=torch.long)})[0, 0]
    expected = (logits[model.layout.ids("semantic", 0)] / 0.8).softmax(-1)
    torch.testing.assert_close(
        torch.bincount(drawn.flatten(), minlength=7) / 3000, expected.detach(), atol=0.03, rtol=0
    )


def test_the_likeliest_tokens_continue_what_is_given(model):
    codes = codes_for(model, 2)
    name = model.layout.target.name
    prompt = prompt_of(model, codes)
    whole = model.sample(prompt, 9, generators(1, 2), top_k=1)
    rest = model.extend(prompt, whole[..., :4], 5, generators(3, 4), top_k=1)
    assert torch.equal(rest, whole[..., 4:])
    assert torch.equal(model.logits({**prompt, name: whole}).argmax(-1), model.layout.tokens(name, whole))


@pytest.mark.parametrize("settings", [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 3, 1.0), (1.0, 0, 0.6), (0.8, 4, 0.7)])
def test_sampling_is_that_of_a_loop_without_cache_and_transformers_warpers(model, settings):
    """Transformers' temperature, top-k and top-p, then the smallest code whose cumulated share passes the number."""
    temperature, top_k, top_p = settings
    warpers = [TemperatureLogitsWarper(temperature), *([TopKLogitsWarper(top_k)] if top_k else [])]
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    prompt, target = prompt_of(model, codes_for(model, 1)), model.layout.target
    drawn = model.sample(prompt, 4, generators(9), temperature, top_k, top_p)
    generator = torch.Generator().manual_seed(9)
    codes = torch.zeros(1, target.num_codebooks, 4, dtype=torch.long)
    for place, number in enumerate(torch.rand(4 * target.num_codebooks, generator=generator, dtype=torch.float64)):
        frame, level = divmod(place, target.num_codebooks)
        logits = model.logits({**prompt, target.name: codes})[0, place, model.layout.ids(target.name, level)]
        for warp in warpers:
            logits = warp(None, logits[None])[0]
        shares, order = logits.double().softmax(-1).sort(descending=True)
        share_of, total, code = dict(zip(order.tolist(), shares.tolist(), strict=True)), 0.0, -1
        while total <= number:
            code += 1
            total += share_of[code]
        codes[0, level, frame] = code
    assert torch.equal(drawn, codes)


def test_extending_looks_at_the_last_frames_that_fit_beside_the_new_ones(model):
    name = model.layout.target.name
    codes = codes_for(model, 2, frames=30)
    prompt = {key: value[..., :6] for key, value in prompt_of(model, codes).items()}
    fresh = model.extend(prompt, codes[name], 5, generators(1, 2))
    assert torch.equal(fresh, model.extend(prompt, codes[name][..., -7:], 5, generators(1, 2)))
    window = {**prompt, name: torch.cat([codes[name][..., -7:], fresh], dim=2)}
    likeliest = model.extend(prompt, codes[name], 5, generators(1, 2), top_k=1)
    window[name][..., -5:] = likeliest
    count = 5 * model.layout.target.num_codebooks
    expected = model.layout.tokens(name, window[name])[:, -count:]
    assert torch.equal(model.logits(window)[:, -count:].argmax(-1), expected)


def test_every_place_gives_no_probability_to_what_is_not_legal_there(model):
    target = model.layout.target
    shares = model.logits(codes_for(model, 2, frames=12)).softmax(-1)
    legal = model.layout.legal(target.name, shares.shape[1])
    assert legal.sum(1).tolist() == [target.codebook_size] * (12 * target.num_codebooks)
    assert bool((shares[:, ~legal] == 0).all())
    assert bool((shares[:, legal] > 0).all())


def test_in_bf16_the_loss_and_its_gradient_stay_those_of_fp32(model):
    codes, weight = codes_for(model, 4), model.body.lm_head.weight
    exact = model.loss(codes)
    exact.backward()
    expected = weight.grad.clone()
    weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(codes)
    rough.backward()
    assert rough.dtype == torch.float32
    assert rough.item() != exact.item()
    assert rough.item() == pytest.approx(exact.item(), rel=0.03)
    assert F.cosine_similarity(weight.grad.flatten(), expected.flatten(), dim=0) > 0.99


def test_a_few_sequences_are_learned_by_heart():
    model = tiny("melody").train()
    codes = codes_for(model, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    before = model.loss(codes).item()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(codes).backward()
        optimizer.step()
    assert model.loss(codes).item() < 0.1 < 1.0 < before
    drawn = model.eval().sample({"prompt": codes["prompt"]}, 6, generators(1, 2, 3, 4), top_k=1)
    assert torch.equal(drawn, codes["semantic"])


def test_bad_calls_are_refused_with_numbers():
    model = tiny("melody")
    codes = codes_for(model, 2)
    prompt = {"prompt": codes["prompt"]}
    with pytest.raises(ValueError, match=r"13 frames asked for.*max_frames = 12"):
        model.sample(prompt, 13, generators(1, 2))
    with pytest.raises(ValueError, match="0 frames asked for"):
        model.extend(prompt, codes["semantic"], 0, generators(1, 2))
    with pytest.raises(ValueError, match="1 generators for 2 rows of 'prompt'"):
        model.sample(prompt, 4, generators(1))
    with pytest.raises(ValueError, match="temperature"):
        model.sample(prompt, 4, generators(1, 2), temperature=0.0)
    with pytest.raises(ValueError, match=r"20 frames of 'semantic'.*max_frames = 12"):
        model.loss({**prompt, "semantic": torch.zeros(2, 1, 20, dtype=torch.long)})
    with pytest.raises(ValueError, match="width 30"):
        CausalTokenLM(streams_of("melody"), width=30, num_heads=4)


def test_an_exported_model_comes_back_the_same(tmp_path):
    model = tiny("coarse")
    codes = codes_for(model, 1)
    save_network(model, tmp_path / "language_model")
    assert torch.equal(load_network(tmp_path / "language_model").logits(codes), model.logits(codes))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_runs_each_layer_again_for_the_same_gradient(dropout):
    arguments = {"width": 32, "num_layers": 2, "num_heads": 2, "feedforward_width": 48, "dropout": dropout}
    models = [CausalTokenLM(streams_of("coarse"), **arguments, checkpointing=flag) for flag in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    codes, found = codes_for(models[0], 2), []
    for model in models:
        calls = []
        model.body.model.layers[0].self_attn.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(1)
        loss = model.loss(codes)
        loss.backward()
        found.append((len(calls), loss, [weight.grad for weight in model.parameters()]))
    assert [calls for calls, *_ in found] == [1, 2]
    assert torch.equal(found[0][1], found[1][1])
    assert all(torch.equal(a, b) for a, b in zip(found[0][2], found[1][2], strict=True))
