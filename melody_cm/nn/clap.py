"""CLAP (arXiv 2211.06687): public weights as a whole, and its text tower alone, which conditions MusicLDM."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ClapModel, ClapProcessor, ClapTextConfig, ClapTextModelWithProjection

from melody_cm.nn.texts import WordTokens
from melody_cm.storage import load_part, load_tokenizer
from melody_cm.storage.pretrained import load_model, load_pretrained

EXAMPLE = "laion/clap-htsat-unfused"


def load_clap(source: str | None) -> tuple[ClapModel, ClapProcessor]:
    """A frozen ClapModel and its processor, from a folder or from the model hub (`owner/name`).

    Raises:
        FileNotFoundError: no source, no such folder, or the hub does not give it.
        ValueError: it holds something else or not all weights.
    """
    processor = load_pretrained(ClapProcessor, source, "clap", EXAMPLE)
    with torch.device("cpu"):  # Weights have values even where a network is only counted.
        return load_model(ClapModel, source, "clap", EXAMPLE), processor


def clap_tokens(config: ClapTextConfig, tokenizer: str, max_tokens: int) -> WordTokens:
    """Texts as CLAP's text tower takes them: a vocabulary (JSON), cut to the tokens that the tower has places for."""
    # RoBERTa's positions begin behind the padding token's.
    room = config.max_position_embeddings - config.pad_token_id - 1
    return WordTokens(tokenizer, config.pad_token_id, min(max_tokens, room))


class ClapText(nn.Module):
    """Texts -> unit vectors (b, width): transformers' `ClapTextModelWithProjection` and its tokenizer.

    Args:
        config: of the model, plain data.
        tokenizer: of the tokenizers library, as JSON.
        max_tokens: of a text; what comes after them is cut.
    """

    def __init__(self, config: dict[str, Any], tokenizer: str, max_tokens: int) -> None:
        super().__init__()
        self.model = ClapTextModelWithProjection(ClapTextConfig.from_dict(config)).eval()
        self.tokens = clap_tokens(self.model.config, tokenizer, max_tokens)
        self.width: int = self.model.config.projection_dim

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        ids, mask = (x.to(self.model.text_projection.linear1.weight.device) for x in self.tokens(texts))
        return F.normalize(self.model(input_ids=ids, attention_mask=mask).text_embeds.float(), dim=-1)


def read_clap_text(folder: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and the weights of the `ClapText` in a public MusicLDM folder (parts `text_encoder`, `tokenizer`).

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or is another kind of model.
    """
    public, tokenizer = load_part(ClapTextModelWithProjection, folder, "text_encoder"), load_tokenizer(folder)
    arguments = {
        "config": public.config.to_diff_dict(),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "max_tokens": int(tokenizer.model_max_length),
    }
    return arguments, {f"model.{name}": value for name, value in public.state_dict().items()}
