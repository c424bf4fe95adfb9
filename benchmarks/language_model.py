"""How fast does MeLoDy's language model sample, in every precision, against transformers with the same weights?

    python benchmarks/language_model.py
    python benchmarks/language_model.py --pairs 7 --tokens 50 --prefill 236

The preset (24 layers of width 1024, 13,315 ids) with random weights and one row. Each pair samples tokens with
transformers' `LlamaForCausalLM` in fp32 (static cache, likeliest token) and then with ours; the first token, which
reads the prompt, is not timed. Prints tokens a second, the median and range of the ratios of pairs, and which share of
the memory bandwidth measured here the weights of a token take. Nothing else should run meanwhile.
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
import yaml
from transformers import StaticCache

from melody_cm.language_models import CausalTokenLM
from melody_cm.placement import Placement
from melody_cm.storage import build

PRESET = Path(__file__).resolve().parents[1] / "configs/language_model/semantic.yaml"
MODES = ("fp32", "bf16", "int8", "int4")
BYTES = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5 + 4 / 64}


def transformers_rate(model: CausalTokenLM, tokens: torch.Tensor, count: int) -> float:
    """Tokens a second after the first one."""
    cache = StaticCache(config=model.body.config, max_cache_len=tokens.shape[1] + count)
    for step in range(count):
        if step == 1:
            start = time.perf_counter()
        logits = model.body(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        tokens = logits[:, -1].argmax(-1, keepdim=True)
    return (count - 1) / (time.perf_counter() - start)


def our_rate(model: CausalTokenLM, given: dict[str, torch.Tensor], past: torch.Tensor, count: int) -> float:
    """The same of `extend`."""
    calls: list[float] = []
    handle = model.pass_module.register_forward_pre_hook(lambda *_: calls.append(time.perf_counter()))
    model.extend(given, past, count, [torch.Generator().manual_seed(0)])
    handle.remove()
    return (count - 1) / (time.perf_counter() - calls[1])


def read_bandwidth() -> float:
    """GB a second of adding up a large tensor, the best of several."""
    numbers, seconds = torch.zeros(2**28), []
    for _ in range(5):
        start = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - start)
    return numbers.nbytes / min(seconds) / 1e9


def placed(model: CausalTokenLM, mode: str) -> CausalTokenLM:
    """A copy in one of the modes."""
    model, quantization = copy.deepcopy(model), mode if mode.startswith("int") else None
    Placement(torch.device("cpu"), "fp32" if mode == "fp32" else "bf16", quantization).put([model])
    return model


@torch.no_grad()
def main() -> None:
    """Mode by mode, pairs that take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=25)
    parser.add_argument("--prefill", type=int, default=0, help="semantic tokens that are there already")
    arguments = parser.parse_args()
    reference: CausalTokenLM = build(yaml.safe_load(PRESET.read_text())).eval()
    bandwidth = read_bandwidth()
    given = {"prompt": torch.randint(1024, (1, 12, 1))}
    past = torch.randint(1024, (1, 1, arguments.prefill))
    tokens = reference.layout.sequence({**given, "semantic": past})
    weights = sum(weight.numel() for weight in reference.body.model.layers.parameters())
    threads = torch.get_num_threads()
    print(f"{threads} threads, reads {bandwidth:.1f} GB/s; prompt of {tokens.shape[1]} tokens", flush=True)
    for mode in arguments.modes:
        model = placed(reference, mode)
        our_rate(model, given, past, 2)  # Packs the weights.
        pairs = [
            (transformers_rate(reference, tokens, arguments.tokens), our_rate(model, given, past, arguments.tokens))
            for _ in range(arguments.pairs)
        ]
        ratios = sorted(our / their for their, our in pairs)
        their, our = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        share = our * weights * BYTES[mode] / bandwidth / 1e9
        print(
            f"{mode}: {our:6.1f} tokens/s, transformers {their:5.1f}; ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} .. {ratios[-1]:.2f}); {share:.0%} of the bandwidth",
            flush=True,
        )


if __name__ == "__main__":
    main()
