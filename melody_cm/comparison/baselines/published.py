"""MusicGen, MusicLDM, AudioLDM2 and Stable Audio, as the libraries have them that they are published for."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoProcessor, MusicgenForConditionalGeneration

from melody_cm.comparison.baselines import random_weights
from melody_cm.comparison.baselines.baseline import Baseline
from melody_cm.comparison.baselines.random_weights import Sizes
from melody_cm.pipelines.request import Batch, Request


class MusicGen(Baseline):
    """A language model on the codes of EnCodec (arXiv 2306.05284), e.g. `facebook/musicgen-small`: 32 kHz, 30 s.

    It has no sampling steps, so it is asked for 1. Clips are made one by one: the library draws from torch's own
    generator, and a clip must sound the same whatever is made beside it.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        model, tokenizer: of transformers.
    """

    max_seconds = 30.0
    num_steps = 1
    guidance_scale = 3.0
    timed = {"planner": ["model.text_encoder", "model.decoder"], "decoder": ["model.audio_encoder.decoder"]}

    def __init__(self, source: str, model: MusicgenForConditionalGeneration, tokenizer: Any) -> None:
        super().__init__(source, {"model": model})
        self.model = model
        self.tokenizer = tokenizer
        self.sample_rate = model.config.audio_encoder.sampling_rate

    @classmethod
    def load(cls, source: str) -> "MusicGen":
        local = Path(source).is_dir()
        model = MusicgenForConditionalGeneration.from_pretrained(source, local_files_only=local)
        processor = AutoProcessor.from_pretrained(source, local_files_only=local, trust_remote_code=False)
        return cls(source, model, processor.tokenizer)

    @classmethod
    def random(cls, sizes: Sizes | None = None) -> "MusicGen":
        return cls("random", **random_weights.musicgen_parts(sizes or random_weights.MUSICGEN))

    def batch(self, request: Request) -> Batch:
        if request.num_steps not in (None, 1):
            raise ValueError(f"num_steps {request.num_steps} asked for, but MusicGen has no sampling steps; say 1")
        return super().batch(request)

    def make(self, batch: Batch, seeds: Sequence[int]) -> Float[Tensor, "b c _"]:
        return torch.cat([self._clip(prompt, seed, batch) for prompt, seed in zip(batch.prompts, seeds, strict=True)])

    def _clip(self, prompt: str, seed: int, batch: Batch) -> Float[Tensor, "1 c _"]:
        codec, decoder = self.model.config.audio_encoder, self.model.config.decoder
        # A codebook begins one step after the one before it.
        delay = decoder.num_codebooks // decoder.audio_channels
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.model.generate(
                **self.tokenizer([prompt], return_tensors="pt").to(self.device),
                do_sample=True,
                guidance_scale=batch.guidance_scale,
                max_new_tokens=math.ceil(round(batch.seconds * codec.frame_rate, 6)) + delay,
            )


class DiffusionBaseline(Baseline):
    """A pipeline of diffusers.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        pipeline: what it calls.

    Attributes:
        library_class: the pipeline's name in diffusers; several have moved to `diffusers.pipelines.deprecated`, but all
            are found by their names.
        random_parts: builds all that the pipeline holds in the given sizes; `sizes` are the published ones.
    """

    library_class: str
    random_parts: Callable[[Sizes], dict[str, Any]]
    sizes: Sizes

    def __init__(self, source: str, pipeline: diffusers.DiffusionPipeline) -> None:
        parts = pipeline.components.items()
        super().__init__(source, {name: part for name, part in parts if isinstance(part, nn.Module)})
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline

    @classmethod
    def load(cls, source: str) -> "DiffusionBaseline":
        kind = getattr(diffusers, cls.library_class)
        return cls(source, kind.from_pretrained(source, local_files_only=Path(source).is_dir()))

    @classmethod
    def random(cls, sizes: Sizes | None = None) -> "DiffusionBaseline":
        return cls("random", getattr(diffusers, cls.library_class)(**cls.random_parts(sizes or cls.sizes)))

    def _sample(self, batch: Batch, seeds: Sequence[int], **arguments: Any) -> Tensor:
        return self.pipeline(
            num_inference_steps=batch.num_steps,
            guidance_scale=batch.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
            **arguments,
        ).audios


class LatentMelBaseline(DiffusionBaseline):
    """Latent diffusion on mel spectrograms: a U-Net, a mel VAE and a HiFi-GAN; up to the length it was trained on."""

    num_steps = 200

    def __init__(self, source: str, pipeline: diffusers.DiffusionPipeline) -> None:
        super().__init__(source, pipeline)
        vocoder = pipeline.vocoder.config
        self.sample_rate = vocoder.sampling_rate
        self._hop_length = math.prod(vocoder.upsample_rates)
        frames = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        self.max_seconds = frames * self._hop_length / self.sample_rate

    def make(self, batch: Batch, seeds: Sequence[int]) -> Float[Tensor, "b c _"]:
        # The library rounds a length down to whole mel frames, so it is asked for whole latent frames.
        latent_frame = self.pipeline.vae_scale_factor * self._hop_length
        frames = math.ceil(round(batch.seconds * self.sample_rate) / latent_frame) * self.pipeline.vae_scale_factor
        seconds = (frames + 0.5) * self._hop_length / self.sample_rate
        return self._sample(batch, seeds, audio_length_in_s=seconds, **self.text_arguments(batch.prompts))[:, None]

    def text_arguments(self, prompts: Sequence[str]) -> dict[str, Any]:
        """What tells the pipeline the prompts."""
        return {"prompt": list(prompts)}


class MusicLDM(LatentMelBaseline):
    """MusicLDM (arXiv 2308.01546), e.g. `ucsd-reach/musicldm`: 16 kHz, 10.24 s."""

    library_class = "MusicLDMPipeline"
    random_parts, sizes = staticmethod(random_weights.musicldm_parts), random_weights.MUSICLDM
    guidance_scale = 2.0
    timed = {
        "planner": ["text_encoder.text_model"],
        "denoiser": ["unet"],
        "decoder": ["vae.decoder", "vocoder"],
    }

    def text_arguments(self, prompts: Sequence[str]) -> dict[str, Any]:
        # The pipeline itself takes CLAP's answer for a tensor, which it is no longer from transformers 5 on.
        nothing = [""] * len(prompts)
        return {"prompt_embeds": self._embed(list(prompts)), "negative_prompt_embeds": self._embed(nothing)}

    def _embed(self, texts: list[str]) -> Float[Tensor, "b d"]:
        length = self.pipeline.tokenizer.model_max_length
        tokens = self.pipeline.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        features = self.networks["text_encoder"].get_text_features(**tokens.to(self.device))
        return getattr(features, "pooler_output", features)


class AudioLDM2(LatentMelBaseline):
    """AudioLDM2 (arXiv 2308.05734), e.g. `cvssp/audioldm2-music`: 16 kHz, 10.24 s."""

    library_class = "AudioLDM2Pipeline"
    random_parts, sizes = staticmethod(random_weights.audioldm2_parts), random_weights.AUDIOLDM2
    guidance_scale = 3.5
    timed = {
        "planner": ["text_encoder.text_model", "text_encoder_2", "projection_model", "language_model"],
        "denoiser": ["unet"],
        "decoder": ["vae.decoder", "vocoder"],
    }


class StableAudio(DiffusionBaseline):
    """Stable Audio Open (arXiv 2407.14358), e.g. `stabilityai/stable-audio-open-1.0`: 44.1 kHz stereo, made mono here.

    It always samples its full 47.5 s and cuts.
    """

    library_class = "StableAudioPipeline"
    random_parts, sizes = staticmethod(random_weights.stable_audio_parts), random_weights.STABLE_AUDIO
    num_steps = 100
    guidance_scale = 7.0
    timed = {"planner": ["text_encoder", "projection_model"], "denoiser": ["transformer"], "decoder": ["vae.decoder"]}

    def __init__(self, source: str, pipeline: diffusers.DiffusionPipeline) -> None:
        super().__init__(source, pipeline)
        self.sample_rate = pipeline.vae.config.sampling_rate
        longest = pipeline.transformer.config.sample_size * pipeline.vae.hop_length / self.sample_rate
        self.max_seconds = math.floor(longest * 10) / 10  # So that no rounding asks for a sample too many.

    def make(self, batch: Batch, seeds: Sequence[int]) -> Float[Tensor, "b c _"]:
        end = (round(batch.seconds * self.sample_rate) + 0.5) / self.sample_rate
        return self._sample(batch, seeds, prompt=list(batch.prompts), audio_end_in_s=end)
