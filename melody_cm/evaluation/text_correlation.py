"""How well music fits its text: the mean cosine of both in a joint embedding (MeLoDy's MCC, MusicCM's CLAP score)."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.metric import ScoreMetric
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import mean_interval
from melody_cm.interfaces import EmbeddingIdentity


class TextCorrelation(ScoreMetric):
    """Mean cosine of each clip's embedding with that of its text; sums over processes, without a clamp at 0.

    `details["shuffled"]` is the mean over all wrong pairs of a text and a clip, which is what shuffled captions
    score on average: only what exceeds it has to do with the text. `excess`, from `excess_low` to `excess_high`, is how
    much nearer a clip is to its own text than to those of the other clips, on average and with Student's interval over
    clips; where clips share a text it is a little too small, as theirs count as wrong pairs too. Vectors not finite or
    0 are left out and counted.

    Args:
        identity, level: as in `ScoreMetric`.
    """

    higher_is_better = True
    text: Tensor
    audio: Tensor
    weighted: Tensor
    products: Tensor
    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, identity: EmbeddingIdentity, level: float = 0.95) -> None:
        super().__init__(identity, level)
        for name in ("text", "audio", "weighted"):
            self.add_sum(name, (identity.width,))
        self.add_sum("products", (identity.width, identity.width))
        for name in ("total", "squares"):
            self.add_sum(name)
        self.add_sum("count", dtype=torch.int64)

    def update(self, text: Float[Tensor, "b d"], audio: Float[Tensor, "b d"]) -> None:
        """Add clips: the embedding of each text, and of the clip made from it; of any length.

        Raises:
            ValueError: another width than the embedding's.
        """
        self.check_width(text.shape[1])
        finite = (text.isfinite() & audio.isfinite()).all(1)
        usable = finite & text.any(1) & audio.any(1)
        text, audio = (torch.nn.functional.normalize(x[usable].to(self.text), dim=1) for x in (text, audio))
        cosine = (text * audio).sum(1)
        self.text += text.sum(0)
        self.audio += audio.sum(0)
        self.weighted += cosine @ audio
        self.products += audio.T @ audio
        self.total += cosine.sum()
        self.squares += cosine.square().sum()
        self.count += len(cosine)
        self.drop("not finite", False, int((~finite).sum()))
        self.drop("other", False, int((finite & ~usable).sum()))

    def compute(self) -> Score:
        """The mean cosine; None without a usable clip."""
        n, total = int(self.count), self.total.item()
        return self.score(
            total / n if n else None,
            mean_interval(total, self.squares.item(), n, self.level),
            method="mean cosine of text and audio over clips; Student's interval",
            n_generated=n,
            n_reference=n,
            too_few=n < 2,
            details=self._beside_wrong_texts(n) if n > 1 else {},
        )

    def _beside_wrong_texts(self, n: int) -> dict[str, float]:
        # All pairs minus the right ones; the sum over all pairs is the product of both sums.
        every, total = (self.text @ self.audio).item(), self.total.item()
        # Of clip i: (n cosine_i - sum of all texts . audio_i) / (n - 1), here without the divisor.
        squares = n**2 * self.squares - 2 * n * self.text @ self.weighted + self.text @ self.products @ self.text
        low, high = mean_interval(n * total - every, squares.item(), n, self.level)
        found = {"shuffled": (every - total) / n, "excess": total - every / n, "excess_low": low, "excess_high": high}
        return {name: value / (n - 1) for name, value in found.items() if value is not None}
