"""How well music fits its text: the mean cosine of both in a joint embedding (MeLoDy's MCC, MusicCM's CLAP score)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import codes_of, mean_interval
from melody_cm.interfaces import EmbeddingIdentity


def text_correlation(
    text: Float[Tensor, "n d"],
    audio: Float[Tensor, "n d"],
    identity: EmbeddingIdentity,
    dropped: Mapping[str, int] | None = None,
    prompts: Sequence[str] | None = None,
    seeds: Sequence[str] | None = None,
) -> Score:
    """The mean cosine of each clip's embedding with that of its text, without a clamp at 0.

    `details["shuffled"]` is the mean over all wrong pairs of a text and a clip, which is what shuffled captions
    score on average: only what exceeds it has to do with the text. `excess`, from `excess_low` to `excess_high`, is how
    much nearer a clip is to its own text than to those of the clips of other prompts, on average. Intervals are those
    of prompts and seeds (`mean_parts`).

    Args:
        text, audio: vectors of any length; clips where one is 0 or not finite are left out and counted.
        dropped: clips by reason that never got a vector.
        prompts: which clips have one text; None: each has its own.
        seeds: which clip of its prompt each is, the same names for all prompts, if they have such names.
    """
    finite = (text.isfinite() & audio.isfinite()).all(1)
    usable = finite & text.any(1) & audio.any(1)
    lost = Counter({"not finite": int((~finite).sum()), "other": int((finite & ~usable).sum())})
    text, audio = (F.normalize(vectors[usable].double(), dim=1) for vectors in (text, audio))
    kept = usable.nonzero()[:, 0].tolist()
    groups = [str(place) if prompts is None else prompts[place] for place in kept]
    members = None if seeds is None else [seeds[place] for place in kept]
    return Score.mean(
        (text * audio).sum(1).tolist(),
        "mean cosine of text and audio over clips; Student's interval over prompts and seeds",
        groups,
        members,
        n_reference=len(text),
        embedding=asdict(identity),
        dropped={"generated": dict(lost + Counter(dropped)), "reference": {}},
        details=_beside_wrong_texts(text, audio, groups, members),
    )


def _beside_wrong_texts(
    text: Float64[Tensor, "n d"], audio: Float64[Tensor, "n d"], groups: Sequence[str], members: Sequence[str] | None
) -> dict[str, float]:
    """What clips score with the texts of other prompts, and how much nearer they are to their own."""
    codes, num_groups = codes_of(groups)
    if num_groups < 2:
        return {}
    of_groups = text.new_zeros(num_groups, text.shape[1]).index_add_(0, codes, text)
    own, others = (text * audio).sum(1), text.sum(0) - of_groups[codes]
    wrong = (audio * others).sum(1) / (len(text) - codes.bincount()[codes])
    low, high = mean_interval((own - wrong).tolist(), groups, members)
    return {
        "shuffled": wrong.mean().item(),
        "excess": (own - wrong).mean().item(),
        "excess_low": low,
        "excess_high": high,
    }
