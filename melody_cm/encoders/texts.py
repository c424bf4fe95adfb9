"""Texts as the text towers take them: never empty, cut where they are too long, which is said once."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer
from torch import Tensor

log = logging.getLogger(__name__)


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
    """Warns once, however often texts are cut.

    Args:
        limit: how much of a text is read.
        unit: of what.
    """

    def __init__(self, limit: int, unit: str) -> None:
        self.limit, self.unit, self.given = limit, unit, False

    def __call__(self, longest: int) -> None:
        if longest > self.limit and not self.given:
            self.given = True
            log.warning("a text of %d %s is read to its first %d only", longest, self.unit, self.limit)


class TextTokens:
    """Texts -> token ids with a vocabulary of the tokenizers library, which knows its own special tokens.

    Args:
        description: of the tokenizer, as JSON.
        pad_id: of the token that fills up shorter texts.
        max_tokens: a text's, with the special ones; what comes after them is cut, and a warning says so once.
    """

    def __init__(self, description: str, pad_id: int, max_tokens: int) -> None:
        self.tokenizer = Tokenizer.from_str(description)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)
        self.pad_id = pad_id
        self.warn = CutWarning(max_tokens, "tokens")

    def __call__(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Ids, and a mask that is 1 where they are no padding.

        Raises:
            ValueError: a text is empty.
        """
        refuse_empty(texts)
        # The library refuses what UTF-8 cannot encode: half a surrogate pair becomes a question mark.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self.tokenizer.encode_batch(clean)
        self.warn(max(map(_whole_length, encodings)))
        rows = [torch.tensor(each.ids, dtype=torch.long) for each in encodings]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def _whole_length(encoding: Encoding) -> int:
    """Tokens of a text before it was cut; every piece of it has special tokens of its own."""
    words = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in [encoding, *encoding.overflowing])
    return words + sum(encoding.special_tokens_mask)
