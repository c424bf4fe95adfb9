"""How well texts find their music and music its text: recall at k over all held-back clips."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int
from scipy import stats
from torch import Tensor
from torchmetrics import Metric

from melody_cm.evaluation.statistics import clip_key

RANKS = (1, 5, 10)
ROWS = 1024


class RetrievalRecall(Metric):
    """Recall at 1, 5 and 10 among all clips of all processes, in both directions.

    Each clip's text looks for the clip among all clips, and each clip for its text among the texts of all clips. Where
    several clips have the same text, it is a hit if any one of them, or of their texts, ranks within k. Equal
    similarities are in random order, whose expectation counts, so that an embedding that says nothing scores chance.
    States are tables over the clips' places that sum over processes. Clips whose vectors are not finite are left out.

    Args:
        num_clips: how many places there are; those that are never filled do not count.
        width: d of the vectors.
    """

    full_state_update = False
    higher_is_better = True
    audio: Tensor
    text: Tensor
    caption: Tensor
    usable: Tensor

    def __init__(self, num_clips: int, width: int) -> None:
        super().__init__()
        for name in ("audio", "text"):
            self.add_state(name, torch.zeros(num_clips, width), dist_reduce_fx="sum")
        for name in ("caption", "usable"):
            self.add_state(name, torch.zeros(num_clips, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, places: Sequence[int], audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], captions: Sequence[str]
    ) -> None:
        """Add clips: unit vectors of their audio and of their texts, and the texts themselves."""
        finite = (audio.isfinite() & text.isfinite()).all(1)
        rows = list(places)
        self.audio[rows] = torch.where(finite[:, None], audio, 0.0).to(self.audio)
        self.text[rows] = torch.where(finite[:, None], text, 0.0).to(self.text)
        self.caption[rows] = torch.tensor([clip_key(caption) for caption in captions], device=self.caption.device)
        self.usable[rows] = finite.to(self.usable)

    def compute(self) -> dict[str, float]:
        """`recall_at_K_text_to_audio`, `recall_at_K_audio_to_text` and `chance_at_K`, the recall of a random order,
        for K = 1, 5, 10; `n` clips that count. Without any clip only that."""
        rows = self.usable.bool()
        audio, text, caption = self.audio[rows], self.text[rows], self.caption[rows]
        result = {"n": float(len(caption))}
        if not len(caption):
            return result
        for name, queries, targets in (("text_to_audio", text, audio), ("audio_to_text", audio, text)):
            values = recall(queries, targets, caption, RANKS)
            result |= {f"recall_at_{k}_{name}": value for k, value in zip(RANKS, values, strict=True)}
        # In a random order all clips share one place.
        own = (caption[:, None] == caption).sum(1)
        places = torch.zeros_like(own), torch.full_like(own, len(caption)), own
        return result | {f"chance_at_{k}": _hits(*places, k).mean().item() for k in RANKS}


def recall(
    queries: Float[Tensor, "n d"], targets: Float[Tensor, "n d"], groups: Int[Tensor, " n"], ranks: Sequence[int]
) -> list[float]:
    """The share of queries with a target of their own group among the k most similar, for each k of `ranks`.

    Equal similarities are in random order: the expectation over the orders is returned.
    """
    hits = torch.zeros(len(ranks), dtype=torch.float64)
    for start in range(0, len(queries), ROWS):
        similarity = queries[start : start + ROWS].double() @ targets.double().T
        own = groups[start : start + ROWS, None] == groups
        places = _places(similarity, own)
        hits += torch.stack([_hits(*places, k).sum() for k in ranks])
    return (hits / len(queries)).tolist()


def _places(similarity: Float[Tensor, "b n"], own: Bool[Tensor, "b n"]) -> tuple[Tensor, Tensor, Tensor]:
    """How many targets are before the best own one, how many share its place, and how many of these are own."""
    best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    equal = similarity == best
    return (similarity > best).sum(1), equal.sum(1), (equal & own).sum(1)


def _hits(before: Tensor, equal: Tensor, own: Tensor, k: int) -> Float64[Tensor, " b"]:
    """The probability that one of `own` among `equal` targets in random order is within k, after `before` others."""
    room = (k - before).clamp(min=0).minimum(equal)
    return torch.from_numpy(stats.hypergeom.sf(0, *(counts.cpu().numpy() for counts in (equal, own, room))))
