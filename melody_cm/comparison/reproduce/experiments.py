"""The papers' tables of `papers.yaml`: what they report, what they claim, and what is run here to see for oneself.

MeLoDy: arXiv 2305.15719, tables 2 to 5. MusicCM: arXiv 2404.13358, tables 1, 3 and 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody_cm.comparison.reproduce.claims import Equal, Smaller
from melody_cm.comparison.reproduce.measure import (
    Bench,
    ablate_recipes,
    compare_systems,
    make_long_music,
    measure_passes,
)
from melody_cm.configuration import read_yaml
from melody_cm.evaluation.results import Results

MEASURES: dict[str, Callable[..., Results]] = {
    "compare": compare_systems,
    "ablate": ablate_recipes,
    "count_passes": measure_passes,
    "make_long_music": make_long_music,
}


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        title: what it shows; source: paper and table; setting: what the paper measured on.
        measured: what is run here, a key of `MEASURES` with its arguments.
        published: the paper's figures by row, then by quantity in its own words.
        not_measured: what of them has no counterpart, in words.
        ours: by quantity, how the key of our counterpart begins; what is not named has none.
        smaller, equal: what the figures are to show, in words, with the further arguments of the claim.
    """

    title: str
    source: str
    setting: str
    measured: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Mapping[str, float | int]]
    not_measured: str
    ours: Mapping[str, str] = field(default_factory=dict)
    smaller: Mapping[str, Sequence[str]] = field(default_factory=dict)
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def claims(self) -> list[Smaller | Equal]:
        """What the figures are to show."""
        compared = [Smaller(text, less, more, quantities) for text, (less, more, *quantities) in self.smaller.items()]
        return [*compared, *(Equal(text, *told) for text, told in self.equal.items())]

    def run(self, bench: Bench, out: Path) -> Results:
        """Measure what stands against the figures; files go into `out`."""
        ((name, arguments),) = self.measured.items()
        return MEASURES[name](**arguments, bench=bench, out=out)

    def figures(self) -> list[dict[str, Any]]:
        """Every figure of the paper with its `row`, `quantity`, `value`, and `ours`, how our counterpart begins."""
        return [
            {"row": row, "quantity": quantity, "value": value, "ours": self.ours.get(quantity)}
            for row, figures in self.published.items()
            for quantity, value in figures.items()
        ]


PAPERS = Path(__file__).parent / "papers.yaml"
EXPERIMENTS = {name: Experiment(**told) for name, told in read_yaml(PAPERS).items()}
