"""How well codebooks serve: what quantization leaves after each level, and how many entries work."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.encoders.clustering import share_left
from melody_cm.encoders.stability import cluster_use
from melody_cm.interfaces import Tokenizer


@torch.no_grad()
def codebook_report(tokenizer: Tokenizer, features: Float[Tensor, "n d"]) -> dict[str, list[float]]:
    """Quantization of feature vectors by a fitted tokenizer, for a log; one number a level.

    Returns:
        `quantization_error`, the share of the vectors' variance that is left after each level (of all levels at once
        where the tokenizer does not tell them apart); `perplexity` of each level's codes, at most the codebook's size;
        `used`, the share of each codebook's entries that occur.
    """
    codes = tokenizer.quantize(features[None])
    use = [cluster_use(codes[:, level], tokenizer.codebook_size) for level in range(tokenizer.num_codebooks)]
    by_level = getattr(tokenizer, "quantization_error", None)
    left = features - tokenizer.dequantize(codes)[0]
    return {
        "quantization_error": by_level(features) if by_level else [share_left(left, features)],
        "perplexity": [perplexity for perplexity, _ in use],
        "used": [share for _, share in use],
    }
