"""Folders in the layout of the public MusicLDM, made by diffusers and transformers with random weights."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    ClapConfig,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    PreTrainedTokenizerFast,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

TINY = {
    "unet": {"block_out_channels": (32, 64), "layers_per_block": 1, "channels": 4, "width": 16},
    "vae": {"block_out_channels": (8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
    "vocoder": {"upsample_initial_channel": 64, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": [[1, 3]]},
    "text": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 24, "projection_dim": 16,
    },
}  # fmt: skip
# What the release has, but for the text tower: two layers of text are as good as twelve here.
PUBLISHED = {
    "unet": {"block_out_channels": (128, 256, 384, 640), "layers_per_block": 2, "channels": 8, "width": 512},
    "vae": {"block_out_channels": (128, 256, 512), "layers_per_block": 2, "norm_num_groups": 32, "latent_channels": 8},
    "vocoder": {
        "upsample_initial_channel": 1024, "resblock_kernel_sizes": (3, 7, 11),
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    },
    "text": {"num_hidden_layers": 2, "max_position_embeddings": 514, "projection_dim": 512},
}  # fmt: skip


def write_musicldm(folder, sizes=TINY, seed=0, whole_clap=False):
    """A folder whose parts have the release's names, types and options."""
    torch.manual_seed(seed)
    write_unet(folder / "unet", **sizes["unet"])
    AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.9227, **sizes["vae"],
    ).save_pretrained(folder / "vae")  # fmt: skip
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=64, sampling_rate=16000, upsample_rates=(5, 4, 2, 2, 2), upsample_kernel_sizes=(16, 16, 8, 4, 4),
        initializer_range=0.1, normalize_before=False, **sizes["vocoder"],
    )  # fmt: skip
    SpeechT5HifiGan(vocoder).save_pretrained(folder / "vocoder")
    write_text_encoder(folder, sizes["text"], whole_clap)
    DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    return folder


def write_unet(folder, block_out_channels, layers_per_block, channels, width):
    """MusicLDM's U-Net: attention on all but the first level, one vector a clip."""
    attention = len(block_out_channels) - 1
    unet = UNet2DConditionModel(
        in_channels=channels, out_channels=channels, block_out_channels=block_out_channels,
        layers_per_block=layers_per_block, cross_attention_dim=block_out_channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attention,
        up_block_types=("CrossAttnUpBlock2D",) * attention + ("UpBlock2D",),
        class_embed_type="simple_projection", class_embeddings_concat=True,
        projection_class_embeddings_input_dim=width,
    )  # fmt: skip
    # Random networks hardly listen to what they are told.
    unet.class_embedding.weight.data *= 20
    unet.save_pretrained(folder)


def write_text_encoder(folder, sizes, whole_clap):
    """CLAP's text tower, or all of CLAP as in the release, and a tokenizer of letters."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz "]
    config = {"vocab_size": len(words), "pad_token_id": 1, **sizes}
    if whole_clap:
        audio = {
            "num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
            "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
            "aff_block_r": 2, "num_classes": 4,
        }  # fmt: skip
        model = ClapModel(ClapConfig(text_config=config, audio_config=audio, projection_dim=config["projection_dim"]))
    else:
        model = ClapTextModelWithProjection(ClapTextConfig(**config))
    model.text_model.embeddings.word_embeddings.weight.data *= 50
    model.save_pretrained(folder / "text_encoder")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "tokenizer")
