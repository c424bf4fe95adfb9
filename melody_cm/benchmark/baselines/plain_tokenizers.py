"""Tokenizers of letters with the classes and sizes that pipelines expect, for networks with random weights."""

import string

import transformers

LETTERS = [*string.printable.strip(), "Ġ", "▁"]


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
    if len(words) > size:
        raise ValueError(f"a vocabulary of {size} tokens is too small for letters; {len(words)} are needed")
    return [*words, *(f"<unused{place}>" for place in range(size - len(words)))]
