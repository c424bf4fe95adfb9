"""How well music fits its text: the mean cosine of both in a joint embedding (MeLoDy's MCC, MusicCM's CLAP score)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import student_interval
from melody_cm.interfaces import EmbeddingIdentity


def text_correlation(
    text: Float[Tensor, "n d"],
    audio: Float[Tensor, "n d"],
    identity: EmbeddingIdentity,
    dropped: Mapping[str, int] | None = None,
) -> Score:
    """The mean cosine of each clip's embedding with that of its text, without a clamp at 0.

    `details["shuffled"]` is the mean over all wrong pairs of a text and a clip, which is what shuffled captions
    score on average: only what exceeds it has to do with the text. `excess`, from `excess_low` to `excess_high`, is how
    much nearer a clip is to its own text than to those of the other clips, on average and with Student's interval over
    clips; where clips share a text it is a little too small, as theirs count as wrong pairs too.

    Args:
        text, audio: vectors of any length; clips where one is 0 or not finite are left out and counted.
        dropped: clips by reason that never got a vector.
    """
    finite = (text.isfinite() & audio.isfinite()).all(1)
    usable = finite & text.any(1) & audio.any(1)
    lost = Counter({"not finite": int((~finite).sum()), "other": int((finite & ~usable).sum())})
    text, audio = (F.normalize(vectors[usable].double(), dim=1) for vectors in (text, audio))
    return Score.mean(
        (text * audio).sum(1).tolist(),
        "mean cosine of text and audio over clips; Student's interval",
        n_reference=len(text),
        embedding=asdict(identity),
        dropped={"generated": dict(lost + Counter(dropped)), "reference": {}},
        details=_beside_wrong_texts(text, audio) if len(text) > 1 else {},
    )


def _beside_wrong_texts(text: Float64[Tensor, "n d"], audio: Float64[Tensor, "n d"]) -> dict[str, float]:
    """What clips score with the texts of all others, and how much nearer they are to their own."""
    own = (text * audio).sum(1)
    wrong = (audio @ text.sum(0) - own) / (len(text) - 1)
    low, high = student_interval((own - wrong).tolist())
    return {
        "shuffled": wrong.mean().item(),
        "excess": (own - wrong).mean().item(),
        "excess_low": low,
        "excess_high": high,
    }
