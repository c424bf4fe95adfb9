"""MusicLDM, AudioLDM2 and Stable Audio, as the pipelines of diffusers that they are published for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.benchmark.baselines import random_weights
from melody_cm.benchmark.baselines.baseline import Baseline


class DiffusionBaseline(Baseline):
    """A pipeline of diffusers.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        pipeline: what it calls.

    Attributes:
        library_class: the pipeline's name in diffusers; several have moved to `diffusers.pipelines.deprecated`, but all
            are found by their names.
    """

    library_class: str

    def __init__(self, source: str, pipeline: diffusers.DiffusionPipeline) -> None:
        networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        super().__init__(source, networks, self.timed_parts(networks))
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline

    @classmethod
    def load(cls, source: str) -> "DiffusionBaseline":
        """From a hub id or a folder in the layout of diffusers."""
        kind = getattr(diffusers, cls.library_class)
        return cls(source, kind.from_pretrained(source, local_files_only=Path(source).is_dir()))

    @classmethod
    def _build(cls, parts: Mapping[str, Any]) -> "DiffusionBaseline":
        return cls("random", getattr(diffusers, cls.library_class)(**parts))

    @staticmethod
    def timed_parts(networks: Mapping[str, Any]) -> dict[str, list[nn.Module]]:
        """The modules whose calls are the planner's, the denoiser's and the decoder's."""
        raise NotImplementedError


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

    def make(
        self, prompts: list[str], seconds: float, seeds: Sequence[int], num_steps: int, guidance_scale: float
    ) -> Float[Tensor, "b c _"]:
        # The library rounds a length down to whole mel frames, so it is asked for whole latent frames.
        latent_frame = self.pipeline.vae_scale_factor * self._hop_length
        frames = math.ceil(round(seconds * self.sample_rate) / latent_frame) * self.pipeline.vae_scale_factor
        audio = self.pipeline(
            **self.text_arguments(prompts),
            audio_length_in_s=(frames + 0.5) * self._hop_length / self.sample_rate,
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
        )
        return audio.audios[:, None]

    def text_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """What tells the pipeline the prompts."""
        return {"prompt": prompts}


class MusicLDM(LatentMelBaseline):
    """MusicLDM (arXiv 2308.01546), e.g. `ucsd-reach/musicldm`: 16 kHz, 10.24 s."""

    library_class = "MusicLDMPipeline"
    guidance_scale = 2.0

    def text_arguments(self, prompts: list[str]) -> dict[str, Any]:
        # The pipeline itself takes CLAP's answer for a tensor, which it is no longer from transformers 5 on.
        nothing = [""] * len(prompts)
        return {"prompt_embeds": self._embed(prompts), "negative_prompt_embeds": self._embed(nothing)}

    def _embed(self, texts: list[str]) -> Float[Tensor, "b d"]:
        tokenizer, encoder = self.pipeline.tokenizer, self.networks["text_encoder"]
        length = tokenizer.model_max_length
        tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        features = encoder.get_text_features(
            tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
        )
        return getattr(features, "pooler_output", features)

    @classmethod
    def random(cls, sizes: Mapping[str, Mapping[str, Any]] = random_weights.MUSICLDM) -> "DiffusionBaseline":
        """The published architecture with random weights."""
        return cls._build(random_weights.musicldm_parts(sizes))

    @staticmethod
    def timed_parts(networks: Mapping[str, Any]) -> dict[str, list[nn.Module]]:
        return {
            "planner": [networks["text_encoder"].text_model],
            "denoiser": [networks["unet"]],
            "decoder": [networks["vae"].decoder, networks["vocoder"]],
        }


class AudioLDM2(LatentMelBaseline):
    """AudioLDM2 (arXiv 2308.05734), e.g. `cvssp/audioldm2-music`: 16 kHz, 10.24 s."""

    library_class = "AudioLDM2Pipeline"
    guidance_scale = 3.5

    @classmethod
    def random(cls, sizes: Mapping[str, Mapping[str, Any]] = random_weights.AUDIOLDM2) -> "DiffusionBaseline":
        """The published architecture with random weights."""
        return cls._build(random_weights.audioldm2_parts(sizes))

    @staticmethod
    def timed_parts(networks: Mapping[str, Any]) -> dict[str, list[nn.Module]]:
        texts = [networks["text_encoder"].text_model, networks["text_encoder_2"]]
        return {
            "planner": [*texts, networks["projection_model"], networks["language_model"]],
            "denoiser": [networks["unet"]],
            "decoder": [networks["vae"].decoder, networks["vocoder"]],
        }


class StableAudio(DiffusionBaseline):
    """Stable Audio Open (arXiv 2407.14358), e.g. `stabilityai/stable-audio-open-1.0`: 44.1 kHz stereo, made mono here.

    It always samples its full 47.5 s and cuts.
    """

    library_class = "StableAudioPipeline"
    num_steps = 100
    guidance_scale = 7.0

    def __init__(self, source: str, pipeline: diffusers.DiffusionPipeline) -> None:
        super().__init__(source, pipeline)
        self.sample_rate = pipeline.vae.config.sampling_rate
        longest = pipeline.transformer.config.sample_size * pipeline.vae.hop_length / self.sample_rate
        self.max_seconds = math.floor(longest * 10) / 10  # So that no rounding asks for a sample too many.

    @classmethod
    def random(cls, sizes: Mapping[str, Mapping[str, Any]] = random_weights.STABLE_AUDIO) -> "DiffusionBaseline":
        """The published architecture with random weights."""
        return cls._build(random_weights.stable_audio_parts(sizes))

    @staticmethod
    def timed_parts(networks: Mapping[str, Any]) -> dict[str, list[nn.Module]]:
        return {
            "planner": [networks["text_encoder"], networks["projection_model"]],
            "denoiser": [networks["transformer"]],
            "decoder": [networks["vae"].decoder],
        }

    def make(
        self, prompts: list[str], seconds: float, seeds: Sequence[int], num_steps: int, guidance_scale: float
    ) -> Float[Tensor, "b c _"]:
        audio = self.pipeline(
            prompts,
            audio_end_in_s=(round(seconds * self.sample_rate) + 0.5) / self.sample_rate,
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
        )
        return audio.audios
