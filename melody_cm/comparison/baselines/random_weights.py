"""The architectures of published baselines with random weights, built without any download, for measuring speed.

The dictionaries hold their published sizes; what is not in them, the libraries have by default. Tokenizers know letters
alone, in the classes and sizes that the pipelines expect.
"""

import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers

Sizes = Mapping[str, Mapping[str, Any]]

_MEL_UNET = {"block_out_channels": (128, 256, 384, 640), "sample_size": 256}
_MEL_VAE = {"block_out_channels": (128, 256, 512), "layers_per_block": 2, "latent_channels": 8}
_T5_BASE = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
_FLAN_T5_LARGE = {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16, "feed_forward_proj": "gated-gelu"}

MUSICLDM: Sizes = {"unet": _MEL_UNET, "vae": _MEL_VAE, "vocoder": {"upsample_initial_channel": 1024}, "clap": {}}
AUDIOLDM2: Sizes = {**MUSICLDM, "t5": _FLAN_T5_LARGE, "gpt2": {}}
STABLE_AUDIO: Sizes = {"transformer": {}, "vae": {}, "t5": _T5_BASE}
MUSICGEN: Sizes = {
    "t5": _T5_BASE,
    "codec": {"num_filters": 64, "codebook_size": 2048, "upsampling_ratios": [8, 5, 4, 4], "target_bandwidths": [2.2]},
    "decoder": {"vocab_size": 2048},
}
LETTERS = [*string.printable.strip(), "Ġ", "▁"]


@contextmanager
def _seeded() -> Iterator[None]:
    """The same weights at every call, and the caller's random numbers as they were: libraries draw from torch's own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@_seeded()
def musicldm_parts(sizes: Sizes) -> dict[str, Any]:
    """All that diffusers' MusicLDMPipeline holds: CLAP's text vector steers the U-Net as a class does."""
    unet, clap = sizes["unet"], transformers.ClapModel(transformers.ClapConfig(**sizes["clap"]))
    channels = unet["block_out_channels"]
    return {
        "unet": diffusers.UNet2DConditionModel(
            **_unet_sizes(unet, sizes["vae"]),
            cross_attention_dim=channels,
            class_embed_type="simple_projection",
            class_embeddings_concat=True,
            projection_class_embeddings_input_dim=clap.config.projection_dim,
        ),
        "text_encoder": clap,
        "tokenizer": roberta_tokenizer(clap.config.text_config),
        "feature_extractor": transformers.ClapFeatureExtractor(),
        **_mel_decoder(sizes, scaling_factor=0.9227),
    }


@_seeded()
def audioldm2_parts(sizes: Sizes) -> dict[str, Any]:
    """All that diffusers' AudioLDM2Pipeline holds: GPT-2 goes on from CLAP's and T5's texts."""
    clap = transformers.ClapModel(transformers.ClapConfig(**sizes["clap"]))
    t5 = transformers.T5EncoderModel(transformers.T5Config(**sizes["t5"]))
    gpt2 = transformers.GPT2Config(**sizes["gpt2"])
    gpt2.max_new_tokens = 8  # As many vectors as the U-Net is told.
    widths = (gpt2.n_embd, t5.config.d_model)
    return {
        "unet": diffusers.AudioLDM2UNet2DConditionModel(
            **_unet_sizes(sizes["unet"], sizes["vae"]),
            cross_attention_dim=[[None, *widths]] * len(sizes["unet"]["block_out_channels"]),
        ),
        "text_encoder": clap,
        "tokenizer": roberta_tokenizer(clap.config.text_config),
        "text_encoder_2": t5,
        "tokenizer_2": t5_tokenizer(t5.config, max_length=512),
        "projection_model": diffusers.AudioLDM2ProjectionModel(clap.config.projection_dim, widths[1], widths[0]),
        "language_model": transformers.GPT2LMHeadModel(gpt2),
        "feature_extractor": transformers.ClapFeatureExtractor(),
        **_mel_decoder(sizes, scaling_factor=0.4111),
    }


@_seeded()
def stable_audio_parts(sizes: Sizes) -> dict[str, Any]:
    """All that diffusers' StableAudioPipeline holds, with the scheduler that the library names for it."""
    t5 = transformers.T5EncoderModel(transformers.T5Config(**sizes["t5"]))
    transformer = diffusers.StableAudioDiTModel(**sizes["transformer"])
    with torch.device("cpu"):  # Where its noise levels stay, wherever networks are built.
        scheduler = diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=500, sigma_data=1.0, prediction_type="v_prediction", sigma_schedule="exponential"
        )
    return {
        "transformer": transformer,
        "vae": diffusers.AutoencoderOobleck(**sizes["vae"]),
        "text_encoder": t5,
        "tokenizer": t5_tokenizer(t5.config, max_length=128),
        "projection_model": diffusers.StableAudioProjectionModel(
            text_encoder_dim=t5.config.d_model,
            conditioning_dim=transformer.config.cross_attention_dim,
            min_value=0,
            max_value=512,
        ),
        "scheduler": scheduler,
    }


@_seeded()
def musicgen_parts(sizes: Sizes) -> dict[str, Any]:
    """The model and the tokenizer of MusicGen."""
    t5 = transformers.T5Config(**sizes["t5"])
    codec = transformers.EncodecConfig(
        sampling_rate=32000, audio_channels=1, use_causal_conv=False, normalize=False, **sizes["codec"]
    )
    start = sizes["decoder"]["vocab_size"]
    decoder = transformers.MusicgenDecoderConfig(pad_token_id=start, bos_token_id=start, **sizes["decoder"])
    config = transformers.MusicgenConfig(text_encoder=t5, audio_encoder=codec, decoder=decoder)
    model = transformers.MusicgenForConditionalGeneration(config)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # The library leaves them 0, and all codes would sound alike.
    model.generation_config.update(decoder_start_token_id=start, pad_token_id=start, bos_token_id=start)
    return {"model": model, "tokenizer": t5_tokenizer(t5, max_length=512)}


def _unet_sizes(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> dict[str, Any]:
    """What the U-Nets of MusicLDM and AudioLDM2 share: attention on all but the first level."""
    attention = len(unet["block_out_channels"]) - 1
    return {
        **unet,
        "in_channels": vae["latent_channels"],
        "out_channels": vae["latent_channels"],
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * attention),
        "up_block_types": (*["CrossAttnUpBlock2D"] * attention, "UpBlock2D"),
    }


def _mel_decoder(sizes: Sizes, scaling_factor: float) -> dict[str, Any]:
    """The mel VAE, the vocoder and the noise schedule that MusicLDM and AudioLDM2 share."""
    levels = len(sizes["vae"]["block_out_channels"])
    vae = diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        scaling_factor=scaling_factor,
        **sizes["vae"],
    )
    vocoder = transformers.SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=16000,
        upsample_rates=(5, 4, 2, 2, 2),
        upsample_kernel_sizes=(16, 16, 8, 4, 4),
        normalize_before=False,
        **sizes["vocoder"],
    )
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )
    return {"vae": vae, "vocoder": transformers.SpeechT5HifiGan(vocoder), "scheduler": scheduler}


def roberta_tokenizer(config: transformers.ClapTextConfig) -> transformers.RobertaTokenizer:
    """As many tokens as a CLAP text encoder knows; texts are padded to 512 tokens, as CLAP's release has it."""
    words = _filled(["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "<mask>"], config.vocab_size)
    length = min(512, config.max_position_embeddings - 2)
    return transformers.RobertaTokenizer(
        vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=length
    )


def t5_tokenizer(config: transformers.T5Config, max_length: int) -> transformers.T5Tokenizer:
    """As many tokens as a T5 knows, at most `max_length` a text."""
    words = _filled(["<pad>", "</s>", "<unk>", *LETTERS], config.vocab_size)
    pieces = [(word, -float(place)) for place, word in enumerate(words)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_length)


def _filled(words: list[str], size: int) -> list[str]:
    words = list(dict.fromkeys(words))
    return [*words, *(f"<unused{place}>" for place in range(size - len(words)))]
