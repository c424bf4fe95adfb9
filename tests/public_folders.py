"""Tiny random models in folders of the same layout as the public ones, written by transformers itself."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BertConfig,
    BertForPreTraining,
    BertTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerFast,
)

CLAP_RATE = 48000
AST_RATE = 16000
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "slow", "piano", "fast", "drum", "##s", "waltz", "a", "é", "钢"]


def write_clap(folder, fusion=False, seed=0):
    """A CLAP of windows of one second, with letters as its vocabulary."""
    torch.manual_seed(seed)
    text = {
        "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 24, "pad_token_id": 1,
    }  # fmt: skip
    audio = {
        "num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
        "enable_fusion": fusion, "aff_block_r": 2, "num_classes": 4,
    }  # fmt: skip
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=8))
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=CLAP_RATE, hop_length=960, max_length_s=1, fft_window_size=1024
    )
    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    model.save_pretrained(folder)
    ClapProcessor(extractor, fast).save_pretrained(folder)


def write_ast(folder, **settings):
    """An AST of MIT's layout, a classifier of sounds, that hears 0.64 s in 32 mel bins."""
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=16,
        frequency_stride=10, time_stride=10, max_length=64, num_mel_bins=32, num_labels=5,
    )  # fmt: skip
    torch.manual_seed(1)
    ASTForAudioClassification(config).save_pretrained(folder)
    extractor = {"num_mel_bins": 32, "max_length": 64, "mean": -4.0, "std": 3.0, **settings}
    ASTFeatureExtractor(sampling_rate=AST_RATE, **extractor).save_pretrained(folder)


def write_bert(folder):
    """A BERT of the layout of bert-base-uncased, with its heads, dropout and a handful of word pieces."""
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    torch.manual_seed(2)
    BertForPreTraining(config).save_pretrained(folder)
    BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}).save_pretrained(folder)
