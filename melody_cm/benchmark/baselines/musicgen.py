"""MusicGen (arXiv 2306.05284), as transformers has it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoProcessor, MusicgenForConditionalGeneration

from melody_cm.benchmark.baselines import random_weights
from melody_cm.benchmark.baselines.baseline import Baseline


class MusicGen(Baseline):
    """A language model on the codes of EnCodec, e.g. `facebook/musicgen-small`: 32 kHz, trained on 30 s.

    It has no sampling steps, so it is asked for 1. Clips are made one by one: the library draws from torch's own
    generator, and a clip must sound the same whatever is made beside it.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        model, tokenizer: of transformers.
    """

    max_seconds = 30.0
    num_steps = 1
    guidance_scale = 3.0

    def __init__(self, source: str, model: MusicgenForConditionalGeneration, tokenizer: Any) -> None:
        parts = {
            "planner": [model.text_encoder, model.decoder],
            "decoder": [model.audio_encoder.decoder],
        }
        super().__init__(source, {"model": model}, parts)
        self.model = model
        self.tokenizer = tokenizer
        self.sample_rate = model.config.audio_encoder.sampling_rate

    @classmethod
    def load(cls, source: str) -> "MusicGen":
        """From a hub id or a folder."""
        local = Path(source).is_dir()
        model = MusicgenForConditionalGeneration.from_pretrained(source, local_files_only=local)
        return cls(source, model, AutoProcessor.from_pretrained(source, local_files_only=local).tokenizer)

    @classmethod
    def random(cls, sizes: Mapping[str, Mapping[str, Any]] = random_weights.MUSICGEN) -> "MusicGen":
        """The published architecture (small) with random weights."""
        return cls("random", **random_weights.musicgen_parts(sizes))

    def check_steps(self, num_steps: int) -> None:
        if num_steps != 1:
            raise ValueError(f"num_steps {num_steps} asked for, but MusicGen has no sampling steps; say 1")

    def make(
        self, prompts: list[str], seconds: float, seeds: Sequence[int], num_steps: int, guidance_scale: float
    ) -> Float[Tensor, "b c _"]:
        pairs = zip(prompts, seeds, strict=True)
        return torch.cat([self._clip(prompt, seconds, seed, guidance_scale) for prompt, seed in pairs])

    def _clip(self, prompt: str, seconds: float, seed: int, guidance_scale: float) -> Float[Tensor, "1 c _"]:
        codec, decoder = self.model.config.audio_encoder, self.model.config.decoder
        frames = math.ceil(round(seconds * codec.frame_rate, 6))
        tokens = self.tokenizer([prompt], return_tensors="pt")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.model.generate(
                input_ids=tokens.input_ids.to(self.device),
                attention_mask=tokens.attention_mask.to(self.device),
                do_sample=True,
                guidance_scale=guidance_scale,
                # A codebook begins one step after the one before it.
                max_new_tokens=frames + decoder.num_codebooks // decoder.audio_channels,
            )
