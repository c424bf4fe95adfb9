"""Texts as the text towers take them: token ids with a mask, cut where they are too long, which is said once."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer
from torch import Tensor

log = logging.getLogger(__name__)

Tokens = tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]


def refuse_empty(texts: Sequence[str]) -> None:
    """Refuse texts without a visible character, whose embedding would mean nothing.

    Raises:
        ValueError: one is empty; the message says which.
    """
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ValueError(
                f"text {number} of {len(texts)} is empty and has no embedding; give every prompt and caption a word"
            )


class CutWarning:
    """Warns once, however often texts are cut to their first `limit` units."""

    def __init__(self, limit: int, unit: str) -> None:
        self.limit, self.unit, self.given = limit, unit, False

    def __call__(self, longest: int) -> None:
        if longest > self.limit and not self.given:
            self.given = True
            log.warning("a text of %d %s is read to its first %d only", longest, self.unit, self.limit)


class ByteTokens:
    """A start token and the UTF-8 bytes of each text, without any trained vocabulary.

    Args:
        max_bytes: of a text; what comes after them is cut.
    """

    pad_id, start_id, first_byte, vocabulary = 0, 1, 2, 258

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.warn = CutWarning(max_bytes, "bytes")

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Ids, and a mask that is 1 where they are no padding. What UTF-8 cannot encode becomes a question mark."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        self.warn(max(map(len, encoded)))
        return _padded(
            [[self.start_id, *(self.first_byte + b for b in e[: self.max_bytes])] for e in encoded], self.pad_id
        )


class WordTokens:
    """Token ids of a vocabulary of the tokenizers library, which knows its own special tokens.

    Args:
        description: of the tokenizer, as JSON.
        pad_id: of the token that fills up shorter texts.
        max_tokens: a text's, with the special ones; what comes after them is cut.
    """

    def __init__(self, description: str, pad_id: int, max_tokens: int) -> None:
        self.tokenizer = Tokenizer.from_str(description)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)
        self.pad_id = pad_id
        self.warn = CutWarning(max_tokens, "tokens")

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Ids, and a mask that is 1 where they are no padding."""
        # The library refuses what UTF-8 cannot encode: half a surrogate pair becomes a question mark.
        encodings = self.tokenizer.encode_batch([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
        self.warn(max(map(_whole_length, encodings)))
        return _padded([each.ids for each in encodings], self.pad_id)


def _padded(rows: Sequence[Sequence[int]], pad_id: int) -> Tokens:
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad_id)
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


def _whole_length(encoding: Encoding) -> int:
    """Tokens of a text before it was cut; every piece of it has special tokens of its own."""
    words = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in [encoding, *encoding.overflowing])
    return words + sum(encoding.special_tokens_mask)
