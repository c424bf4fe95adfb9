"""The text tower of CLAP (arXiv 2211.06687), which conditions MusicLDM (arXiv 2308.01546, section 3)."""

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ClapText(nn.Module):
    """Texts -> unit vectors (b, width): transformers' `ClapTextModelWithProjection` and its tokenizer.

    Args:
        config: of the model, plain data.
        tokenizer: of the tokenizers library, as JSON text that says how to pad and where to cut.
    """

    def __init__(self, config: dict[str, Any], tokenizer: str) -> None:
        super().__init__()
        from tokenizers import Tokenizer
        from transformers import ClapTextConfig, ClapTextModelWithProjection

        self.tokenizer = Tokenizer.from_str(tokenizer)
        self.model = ClapTextModelWithProjection(ClapTextConfig.from_dict(config)).eval()
        self.width: int = self.model.config.projection_dim

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        encodings = self.tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
        device = self.model.text_projection.linear1.weight.device
        ids = torch.tensor([each.ids for each in encodings], device=device)
        mask = torch.tensor([each.attention_mask for each in encodings], device=device)
        return F.normalize(self.model(input_ids=ids, attention_mask=mask).text_embeds.float(), dim=-1)


def clap_arguments(model: Any, tokenizer: Any) -> dict[str, Any]:
    """The arguments of a `ClapText` like a model and a tokenizer of transformers."""
    # RoBERTa's positions begin behind the padding token's.
    room = model.config.max_position_embeddings - model.config.pad_token_id - 1
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(min(tokenizer.model_max_length, room))
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return {"config": json.loads(model.config.to_json_string()), "tokenizer": backend.to_str()}
