"""wav2vec 2.0's task: tell a hidden frame's quantized features from those of other hidden frames of the clip.

Baevski et al., arXiv 2006.11477, sections 3.1-3.2: equations 1 (quantizer), 3 (contrastive) and 4 (diversity). All
noise is an argument, so that it can be keyed; transformers' own quantizer draws from the global generator.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from melody_cm.encoders.kmeans import perplexity
from melody_cm.interfaces import Network
from melody_cm.nn.shared_statistics import num_processes, summed


class Prediction(NamedTuple):
    """`contrastive` (cross-entropy in nats) and `accuracy`, means over the hidden frames; `perplexity` of the
    quantizer's entries, summed over its groups and at most groups x entries."""

    contrastive: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]
    perplexity: Float[Tensor, ""]


def draw_mask(starts: Float[Tensor, "b l"], real: Bool[Tensor, "b l"], share: float, span: int) -> Bool[Tensor, "b l"]:
    """Which frames are hidden: spans of `span` frames that begin at the round(share x l) smallest numbers in `starts`.

    Spans may overlap, and end with the clip; frames that are not `real` stay seen.
    """
    length = starts.shape[1]
    count = max(1, round(share * length))
    begins = torch.zeros_like(starts).scatter(1, starts.topk(count, largest=False).indices, 1.0)
    covered = F.max_pool1d(F.pad(begins[:, None], (span - 1, 0)), span, stride=1)[:, 0]
    return (covered > 0) & real


def draw_negatives(mask: Bool[Tensor, "b l"], uniform: Float[Tensor, "b l k"]) -> Int[Tensor, "b l k"]:
    """For every hidden frame k other hidden frames of its clip, with replacement, by numbers uniform in [0, 1).

    Means nothing for frames that are seen, and for the only hidden frame of a clip.
    """
    hidden_first = (~mask).long().argsort(dim=1, stable=True)
    rank = mask.cumsum(1) - 1
    others = (mask.sum(1) - 1).clamp(min=1)
    chosen = (uniform * others[:, None, None]).long()
    chosen = (chosen + (chosen >= rank[..., None])).clamp(max=mask.shape[1] - 1)
    return rearrange(hidden_first.gather(1, chosen.flatten(1)), "b (l k) -> b l k", l=mask.shape[1])


class GumbelQuantizer(nn.Module):
    """One of `entries` vectors in each of `groups` groups, side by side; gradient passes straight through the choice.

    Args:
        in_width: c of what is quantized.
        groups, entries: of the codebooks.
        width: d of the result, groups x width of an entry.
    """

    def __init__(self, in_width: int, groups: int, entries: int, width: int) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(f"the quantizer's width {width} must be a multiple of its groups {groups}")
        self.groups = groups
        self.weight_proj = nn.Linear(in_width, groups * entries)
        self.codevectors = nn.Parameter(torch.rand(groups, entries, width // groups))
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(
        self, features: Float[Tensor, "b l c"], noise: Float[Tensor, "b l g v"] | None, temperature: float
    ) -> tuple[Float[Tensor, "b l d"], Int[Tensor, "b l g"], Float[Tensor, "b l g v"]]:
        """The chosen vectors, their indices, and the weights that decide how diverse the choices count: probabilities,
        or without noise (Gumbel's, none in evaluation) the choices themselves."""
        logits = rearrange(self.weight_proj(features), "b l (g v) -> b l g v", g=self.groups).float()
        soft = logits.softmax(-1) if noise is None else ((logits + noise) / temperature).softmax(-1)
        indices = soft.argmax(-1)
        hard = F.one_hot(indices, logits.shape[-1]).to(soft)
        # In this order the sum is exactly `hard`.
        choice = hard if noise is None else hard + (soft - soft.detach())
        vectors = einsum(choice, self.codevectors.float(), "b l g v, g v d -> b l g d")
        return vectors.flatten(2), indices, hard if noise is None else logits.softmax(-1)


class MaskedPrediction(Network):
    """The heads that are thrown away after training: quantizer, and one projection each of context and target.

    Args:
        context_width, feature_width: of the hidden states and of the features that are quantized.
        groups, entries: of the quantizer.
        code_width: of its vectors; width: of the space where they are compared.
        temperature: that cosines are divided by.
    """

    def __init__(
        self,
        context_width: int,
        feature_width: int,
        groups: int = 2,
        entries: int = 320,
        code_width: int = 256,
        width: int = 256,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.groups, self.entries, self.temperature = groups, entries, temperature
        self.quantizer = GumbelQuantizer(feature_width, groups, entries, code_width)
        self.project_hid = nn.Linear(context_width, width)
        self.project_q = nn.Linear(code_width, width)

    def forward(
        self,
        context: Float[Tensor, "b l d"],
        features: Float[Tensor, "b l c"],
        mask: Bool[Tensor, "b l"],
        negatives: Int[Tensor, "b l k"],
        noise: Float[Tensor, "b l g v"] | None = None,
        gumbel_temperature: float = 2.0,
    ) -> Prediction:
        """How well the hidden frames are told from `negatives`. Clips with fewer than two hidden frames do not count;
        a batch of only such clips has no loss. In training the hidden frames of all processes count alike: the mean
        of `contrastive` over processes is the mean over the frames, and `perplexity` is that of all."""
        mask = mask & (mask.sum(1, keepdim=True) > 1)
        vectors, indices, weights = self.quantizer(features, noise, gumbel_temperature)
        targets = self.project_q(vectors).float()
        rows = torch.arange(len(mask), device=mask.device)[:, None, None]
        places = mask.flatten().nonzero()[:, 0]  # Asked for once: to know how many they are waits for the GPU.

        def hidden(x: Tensor) -> Tensor:
            return x.flatten(0, 1)[places]

        predicted = hidden(self.project_hid(context)).float()
        candidates = torch.cat([hidden(targets)[:, None], hidden(targets[rows, negatives])], 1)
        logits = F.cosine_similarity(predicted[:, None], candidates, dim=-1) / self.temperature
        # A negative with the same codes is no negative.
        same = F.pad((hidden(indices[rows, negatives]) == hidden(indices)[:, None]).all(-1), (1, 0))
        logits = logits.masked_fill(same, float("-inf"))
        share = summed if self.training else nn.Identity()
        processes = num_processes() if self.training else 1
        count = share(mask.sum().float()).clamp(min=1)
        losses = -logits.log_softmax(-1)[:, 0]
        correct = (logits[:, 0] > logits[:, 1:].max(-1).values) & ~same[:, 1:].all(-1)
        used = perplexity(share(hidden(weights).sum(0)) / count).sum()
        return Prediction(losses.sum() * processes / count, correct.sum() * processes / count, used)
