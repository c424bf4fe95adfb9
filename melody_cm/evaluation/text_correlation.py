"""How well music fits its text: the mean cosine of both in a joint embedding (MeLoDy's MCC, MusicCM's CLAP score)."""

from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.metric import CountingMetric
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import mean_interval
from melody_cm.interfaces import EmbeddingIdentity


class TextCorrelation(CountingMetric):
    """Mean cosine of each clip's embedding with that of its text; sums over processes, without a clamp at 0.

    `details["shuffled"]` is the mean over all wrong pairs of a text and a clip, which is what shuffled captions
    score on average: only what exceeds it has to do with the text. Vectors not finite or 0 are left out and counted.

    Args:
        identity: of the joint embedding; values of unlike identities must not be compared.
        level: of the confidence interval (Student's, over clips).
    """

    higher_is_better = True

    def __init__(self, identity: EmbeddingIdentity, level: float = 0.95) -> None:
        super().__init__()
        self.identity, self.level = identity, level
        for name in ("text", "audio"):
            self.add_sum(name, (identity.width,))
        for name in ("total", "squares"):
            self.add_sum(name, ())
        self.add_sum("count", (), torch.int64)

    def update(self, text: Float[Tensor, "b d"], audio: Float[Tensor, "b d"]) -> None:
        """Add clips: the embedding of each text, and of the clip made from it; of any length.

        Raises:
            ValueError: another width than the embedding's.
        """
        if text.shape[1] != self.identity.width:
            raise ValueError(f"vectors of width {text.shape[1]}, but {self.identity.name} has {self.identity.width}")
        finite = (text.isfinite() & audio.isfinite()).all(1)
        usable = finite & text.any(1) & audio.any(1)
        text, audio = (torch.nn.functional.normalize(x[usable].to(self.text), dim=1) for x in (text, audio))
        cosine = (text * audio).sum(1)
        self.text += text.sum(0)
        self.audio += audio.sum(0)
        self.total += cosine.sum()
        self.squares += cosine.square().sum()
        self.count += len(cosine)
        self.drop("not finite", False, int((~finite).sum()))
        self.drop("other", False, int((finite & ~usable).sum()))

    def compute(self) -> Score:
        """The mean cosine; None without a usable clip."""
        n, total = int(self.count), self.total.item()
        value = total / n if n else None
        low, high = mean_interval(total, self.squares.item(), n, self.level)
        # All pairs minus the right ones; the sum over all pairs is the product of both sums.
        wrong = (self.text @ self.audio).item() - total
        return Score(
            value=value,
            corrected=value if n > 1 else None,
            low=low,
            high=high,
            method="mean cosine of text and audio over clips; Student's interval",
            n_generated=n,
            n_reference=n,
            too_few=n < 2,
            embedding=asdict(self.identity),
            dropped=self.dropped_counts(),
            details={"shuffled": wrong / (n * (n - 1))} if n > 1 else {},
            level=self.level,
        )
