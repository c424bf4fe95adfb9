"""The papers' tables: what they report, what they claim, and what is run here to see for oneself.

MeLoDy: arXiv 2305.15719, tables 2 to 5. MusicCM: arXiv 2404.13358, tables 1, 3 and 4.
The constants here are the papers' own figures; they are printed under the paper's name alone, never as ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from melody_cm.comparison.reproduce.claims import Equal, Smaller
from melody_cm.comparison.reproduce.measure import (
    Bench,
    ablate_recipes,
    compare_systems,
    measure_long_music,
    measure_passes,
)
from melody_cm.evaluation.results import Results

FAD, TEXT, SPEED = ("fad_", "kad_"), ("text_similarity_", "text_correlation_"), ("times_real_time",)


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        title: what it shows; source: paper and table; setting: what the paper measured on.
        run: what is run here, which writes its files into a folder.
        published: the paper's figures by row, then by quantity in its own words.
        ours: by quantity, how the key of our counterpart begins; what is not named has none.
        claims: what the figures are to show.
        not_measured: what of them has no counterpart, in words.
    """

    title: str
    source: str
    setting: str
    run: Callable[[Bench, Path], Results]
    published: Mapping[str, Mapping[str, float | int]]
    claims: Sequence[Smaller | Equal]
    not_measured: str
    ours: Mapping[str, str] = field(default_factory=dict)

    def figures(self) -> list[dict[str, Any]]:
        """Every figure of the paper with its `row`, `quantity`, `value`, and `ours`, how our counterpart begins."""
        return [
            {"row": row, "quantity": quantity, "value": value, "ours": self.ours.get(quantity)}
            for row, figures in self.published.items()
            for quantity, value in figures.items()
        ]


EXPERIMENTS: dict[str, Experiment] = {
    "melody-speed": Experiment(
        "Steps, speed and quality of MeLoDy",
        "MeLoDy, arXiv 2305.15719, table 2",
        "MusicCaps prompts; VGGish FAD against MusicCaps; MCC by the authors' own MuLan; one V100",
        partial(compare_systems, {"melody": [5, 10, 20]}),
        {
            "melody, 5 steps": {"times real time on a V100": 7.5, "FAD": 7.23, "MCC": 0.49},
            "melody, 10 steps": {"times real time on a V100": 4.4, "FAD": 5.93, "MCC": 0.52},
            "melody, 20 steps": {"times real time on a V100": 2.4, "FAD": 5.41, "MCC": 0.53},
        },
        [
            Smaller("10 steps are nearer to real music than 5", "melody, 10 steps", "melody, 5 steps", FAD),
            Smaller("20 steps are nearer to real music than 10", "melody, 20 steps", "melody, 10 steps", FAD),
            Smaller("10 steps follow the text better than 5", "melody, 5 steps", "melody, 10 steps", TEXT),
            Smaller("20 steps follow the text better than 10", "melody, 10 steps", "melody, 20 steps", TEXT),
            Smaller("5 steps are faster than 10", "melody, 10 steps", "melody, 5 steps", SPEED),
            Smaller("10 steps are faster than 20", "melody, 20 steps", "melody, 10 steps", SPEED),
        ],
        "The paper does not say whether its speeds include the semantic language model; ours include all parts.",
        ours={"times real time on a V100": "times_real_time", "FAD": "fad_", "MCC": "text_correlation_"},
    ),
    "melody-schedule": Experiment(
        "The angle schedule of MeLoDy",
        "MeLoDy, arXiv 2305.15719, table 4",
        "the same network and the same semantic tokens, MusicCaps; VGGish FAD",
        partial(ablate_recipes, "recipes/ablations/angle_schedule", ["linear", "uniform"], [10, 20]),
        {
            "uniform, 10 steps": {"FAD": 8.52, "MCC": 0.45},
            "uniform, 20 steps": {"FAD": 6.31, "MCC": 0.49},
            "linear, 10 steps": {"FAD": 5.93, "MCC": 0.52},
            "linear, 20 steps": {"FAD": 5.41, "MCC": 0.53},
        },
        [
            Smaller("linear angles beat uniform ones at 10 steps", "linear, 10 steps", "uniform, 10 steps", FAD),
            Smaller("linear angles beat uniform ones at 20 steps", "linear, 20 steps", "uniform, 20 steps", FAD),
        ],
        "MCC: the samples are made from the test clips' own tokens, not from a text.",
        ours={"FAD": "fad_"},
    ),
    "melody-network": Experiment(
        "The network of MeLoDy against U-Nets of its size",
        "MeLoDy, arXiv 2305.15719, table 5",
        "about 300 M parameters each, 100k steps on 5k hours, 8 x V100",
        partial(ablate_recipes, "recipes/ablations/network", ["dual_path", "unet1d", "unet2d"], []),
        {
            "unet1d": {"velocity MSE": 0.13, "SI SNRi in dB": 5.33},
            "unet2d": {"velocity MSE": 0.15, "SI SNRi in dB": 4.96},
            "dual_path": {"velocity MSE": 0.12, "SI SNRi in dB": 6.15},
        },
        [
            Smaller("dual-path has a smaller velocity error than UNet-1D", "dual_path", "unet1d", ["velocity_mse"]),
            Smaller("dual-path has a smaller velocity error than UNet-2D", "dual_path", "unet2d", ["velocity_mse"]),
            Smaller("dual-path gains more SI-SNR than UNet-1D", "unet1d", "dual_path", ["si_snri"]),
            Smaller("dual-path gains more SI-SNR than UNet-2D", "unet2d", "dual_path", ["si_snri"]),
        ],
        "The paper does not say at which noise levels it measures; ours are 16, from 2.8 to 87.2 degrees.",
        ours={"velocity MSE": "velocity_mse", "SI SNRi in dB": "si_snri"},
    ),
    "melody-passes": Experiment(
        "Forward passes of MeLoDy and MusicLM",
        "MeLoDy, arXiv 2305.15719, table 3 and abstract",
        "formulas; 25 semantic tokens a second, 20 sampling steps; MusicLM's 25 + 200 + 400 tokens a second",
        partial(measure_passes, {"melody": 20, "musiclm": 1}),
        {"10 s": {"MusicLM": 6250, "MeLoDy": 270, "share saved": 0.957}, "30 s": {"share saved": 0.996}},
        [
            Equal("MusicLM takes 6250 passes for 10 s", "10 s", "musiclm", 6250),
            Equal("MeLoDy takes 270 passes for 10 s", "10 s", "melody", 270),
            Equal("MeLoDy saves 95.7 % of them for 10 s", "10 s", "saved", 0.957, 0.0005),
            Equal("MeLoDy saves 99.6 % of them for 30 s", "30 s", "saved", 0.996, 0.0005),
            Equal("MeLoDy really makes the passes of its formula", "counted here", "melody beyond", 0),
            Equal("MusicLM really makes the passes of its formula", "counted here", "musiclm beyond", 0),
        ],
        "99.6 % cannot follow from table 3, whose formula saves at most 96 % at any length.",
        ours={"MusicLM": "musiclm", "MeLoDy": "melody", "share saved": "saved"},
    ),
    "musiccm-quality": Experiment(
        "Few steps of MusicCM against its teacher",
        "MusicCM, arXiv 2404.13358, table 1",
        "1000 test tracks of Audiostock, 10 s; Frechet distances of PANN and VGGish; one A100",
        partial(compare_systems, {"musiccm": [1, 4], "musiccm_teacher": [50]}),
        {
            "musiccm_teacher, 50 steps": {"FD pann": 26.67, "FD vgg": 2.40, "seconds for 10 s on an A100": 2.19},
            "musiccm, 4 steps": {"FD pann": 27.13, "FD vgg": 2.48, "seconds for 10 s on an A100": 0.37},
            "musiccm, 1 step": {"FD pann": 32.12, "FD vgg": 3.31, "seconds for 10 s on an A100": 0.23},
        },
        [
            Smaller("4 steps are nearer to real music than 1", "musiccm, 4 steps", "musiccm, 1 step", FAD),
            Smaller("50 steps of the teacher are nearer still", "musiccm_teacher, 50 steps", "musiccm, 4 steps", FAD),
            Smaller("4 steps are faster than the teacher", "musiccm_teacher, 50 steps", "musiccm, 4 steps", SPEED),
            Smaller("1 step is faster than 4", "musiccm, 4 steps", "musiccm, 1 step", SPEED),
        ],
        "Inception score and KL need the PANN classifier, and are left out.",
        ours={"FD pann": "fad_", "seconds for 10 s on an A100": "wall_"},
    ),
    "musiccm-discriminator": Experiment(
        "The discriminator of MusicCM",
        "MusicCM, arXiv 2404.13358, table 3",
        "Audiostock, 4 steps; Frechet distance of PANN; similarity of text and audio by CLAP",
        partial(ablate_recipes, "recipes/ablations/distillation", ["base", "no_discriminator"], [4]),
        {
            "base, 4 steps": {"FD pann": 27.13, "TA similarity": 0.275},
            "no_discriminator, 4 steps": {"FD pann": 28.65, "TA similarity": 0.271},
        },
        [
            Smaller(
                "the discriminator brings samples nearer to real music",
                "base, 4 steps",
                "no_discriminator, 4 steps",
                FAD,
            )
        ],
        "Inception score, KL and the row with CLAP's features are left out.",
        ours={"FD pann": "fad_"},
    ),
    "musiccm-long": Experiment(
        "Long music of MusicCM from one shared canvas",
        "MusicCM, arXiv 2404.13358, section 3.3, figure 2 and table 4",
        "60 s; one picture, and scores of eight listeners (quality / relevance / musicality)",
        partial(measure_long_music, "musiccm", 4, 4),
        {
            "MusicCM, 60 s": {"quality": 0.350, "relevance": 0.291, "musicality": 0.525},
            "MusicLDM, 60 s": {"quality": 0.292, "relevance": 0.275, "musicality": 0.516},
        },
        [
            Smaller("a shared canvas hides the seams of its windows", "shared", "independent", ["seam_ratio"]),
            Smaller("a shared canvas makes neighbours alike", "independent", "shared", ["adjacent_similarity"]),
        ],
        "Listeners' scores have no counterpart; the paper has no measure of coherence, so both of ours are our own.",
    ),
}
