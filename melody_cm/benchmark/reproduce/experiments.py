"""The papers' tables: what they report, what they claim, and what is run here to see for oneself.

MeLoDy: arXiv 2305.15719, tables 2 to 5. MusicCM: arXiv 2404.13358, tables 1, 3 and 4.
The constants here are the papers' own figures; they are printed under the paper's name alone, never as ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melody_cm.benchmark.reproduce.claims import Claim, Equal, Smaller

FAD, TEXT, SPEED = ("fad_", "kad_"), ("text_similarity_", "text_correlation_"), ("times_real_time",)


@dataclass(frozen=True)
class Compare:
    """Systems side by side, with the prompts of recipes/compare/SIZE.yaml; numbers of steps by system."""

    systems: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Ablate:
    """Recipes of a folder with several seeds, sampled with each number of steps; the first one is the baseline."""

    folder: str
    recipes: Sequence[str]
    steps: Sequence[int]


@dataclass(frozen=True)
class CountPasses:
    """The papers' formulas, and the passes of one clip of each system."""

    systems: Mapping[str, int]


@dataclass(frozen=True)
class LongMusic:
    """Music of several windows, with one canvas for all and with a canvas for each."""

    system: str
    num_steps: int
    windows: int


@dataclass(frozen=True)
class Published:
    """One figure of a paper: `value` of `quantity` in its own words; `ours`: how our counterpart's name begins."""

    row: str
    quantity: str
    value: float | int
    ours: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        title: what it shows; source: paper and table; setting: what the paper measured on.
        run: what is run here.
        published: the paper's figures; claims: what they are to show; not_measured: what of them has no counterpart.
    """

    title: str
    source: str
    setting: str
    run: Compare | Ablate | CountPasses | LongMusic
    published: Sequence[Published]
    claims: Sequence[Claim]
    not_measured: str = ""


def _columns(row: str, **figures: tuple[float | int, str | None]) -> list[Published]:
    return [Published(row, name.replace("_", " "), value, ours) for name, (value, ours) in figures.items()]


def _speed_row(steps: int, times: float, fad: float, mcc: float) -> list[Published]:
    figures = {"times_real_time_on_a_V100": (times, SPEED[0]), "FAD": (fad, FAD[0]), "MCC": (mcc, "text_correlation_")}
    return _columns(f"melody, {steps} steps", **figures)


def _schedule_row(recipe: str, steps: int, fad: float, mcc: float) -> list[Published]:
    return _columns(f"{recipe}, {steps} steps", FAD=(fad, FAD[0]), MCC=(mcc, None))


def _network_row(recipe: str, mse: float, si_snri: float) -> list[Published]:
    return _columns(recipe, velocity_MSE=(mse, "velocity_mse"), SI_SNRi_in_dB=(si_snri, "si_snri"))


def _quality_row(row: str, pann: float, vggish: float, latency: float) -> list[Published]:
    figures = {"FD_pann": (pann, FAD[0]), "FD_vgg": (vggish, None), "seconds_for_10_s_on_an_A100": (latency, "wall_")}
    return _columns(row, **figures)


MELODY_SPEED = Experiment(
    "Steps, speed and quality of MeLoDy",
    "MeLoDy, arXiv 2305.15719, table 2",
    "MusicCaps prompts; VGGish FAD against MusicCaps; MCC by the authors' own MuLan; one V100",
    Compare({"melody": [5, 10, 20]}),
    [*_speed_row(5, 7.5, 7.23, 0.49), *_speed_row(10, 4.4, 5.93, 0.52), *_speed_row(20, 2.4, 5.41, 0.53)],
    [
        Smaller("10 steps are nearer to real music than 5", "melody, 10 steps", "melody, 5 steps", FAD),
        Smaller("20 steps are nearer to real music than 10", "melody, 20 steps", "melody, 10 steps", FAD),
        Smaller("10 steps follow the text better than 5", "melody, 5 steps", "melody, 10 steps", TEXT),
        Smaller("20 steps follow the text better than 10", "melody, 10 steps", "melody, 20 steps", TEXT),
        Smaller("5 steps are faster than 10", "melody, 10 steps", "melody, 5 steps", SPEED),
        Smaller("10 steps are faster than 20", "melody, 20 steps", "melody, 10 steps", SPEED),
    ],
    "The paper does not say whether its speeds include the semantic language model; ours include all parts.",
)

MELODY_SCHEDULE = Experiment(
    "The angle schedule of MeLoDy",
    "MeLoDy, arXiv 2305.15719, table 4",
    "the same network and the same semantic tokens, MusicCaps; VGGish FAD",
    Ablate("recipes/ablations/angle_schedule", ["linear", "uniform"], [10, 20]),
    [
        *_schedule_row("uniform", 10, 8.52, 0.45),
        *_schedule_row("uniform", 20, 6.31, 0.49),
        *_schedule_row("linear", 10, 5.93, 0.52),
        *_schedule_row("linear", 20, 5.41, 0.53),
    ],
    [
        Smaller("linear angles beat uniform ones at 10 steps", "linear, 10 steps", "uniform, 10 steps", FAD),
        Smaller("linear angles beat uniform ones at 20 steps", "linear, 20 steps", "uniform, 20 steps", FAD),
    ],
    "MCC: the samples are made from the test clips' own tokens, not from a text.",
)

MELODY_NETWORK = Experiment(
    "The network of MeLoDy against U-Nets of its size",
    "MeLoDy, arXiv 2305.15719, table 5",
    "about 300 M parameters each, 100k steps on 5k hours, 8 x V100",
    Ablate("recipes/ablations/network", ["dual_path", "unet1d", "unet2d"], []),
    [*_network_row("unet1d", 0.13, 5.33), *_network_row("unet2d", 0.15, 4.96), *_network_row("dual_path", 0.12, 6.15)],
    [
        Smaller("dual-path has a smaller velocity error than UNet-1D", "dual_path", "unet1d", ["velocity_mse"]),
        Smaller("dual-path has a smaller velocity error than UNet-2D", "dual_path", "unet2d", ["velocity_mse"]),
        Smaller("dual-path gains more SI-SNR than UNet-1D", "unet1d", "dual_path", ["si_snri"]),
        Smaller("dual-path gains more SI-SNR than UNet-2D", "unet2d", "dual_path", ["si_snri"]),
    ],
    "The paper does not say at which noise levels it measures; ours are 16, from 2.8 to 87.2 degrees.",
)

MELODY_PASSES = Experiment(
    "Forward passes of MeLoDy and MusicLM",
    "MeLoDy, arXiv 2305.15719, table 3 and abstract",
    "formulas; 25 semantic tokens a second, 20 sampling steps; MusicLM's 25 + 200 + 400 tokens a second",
    CountPasses({"melody": 20, "musiclm": 1}),
    [
        *_columns("10 s", MusicLM=(6250, "musiclm"), MeLoDy=(270, "melody"), share_saved=(0.957, "saved")),
        *_columns("30 s", share_saved=(0.996, "saved")),
    ],
    [
        Equal("MusicLM takes 6250 passes for 10 s", "10 s", "musiclm", 6250),
        Equal("MeLoDy takes 270 passes for 10 s", "10 s", "melody", 270),
        Equal("MeLoDy saves 95.7 % of them for 10 s", "10 s", "saved", 0.957, 0.0005),
        Equal("MeLoDy saves 99.6 % of them for 30 s", "30 s", "saved", 0.996, 0.0005),
        Equal("MeLoDy really makes the passes of its formula", "counted here", "melody beyond", 0),
        Equal("MusicLM really makes the passes of its formula", "counted here", "musiclm beyond", 0),
    ],
    "99.6 % cannot follow from table 3, whose formula saves at most 96 % at any length.",
)

MUSICCM_QUALITY = Experiment(
    "Few steps of MusicCM against its teacher",
    "MusicCM, arXiv 2404.13358, table 1",
    "1000 test tracks of Audiostock, 10 s; Frechet distances of PANN and VGGish; one A100",
    Compare({"musiccm": [1, 4], "musiccm_teacher": [50]}),
    [
        *_quality_row("musiccm_teacher, 50 steps", 26.67, 2.40, 2.19),
        *_quality_row("musiccm, 4 steps", 27.13, 2.48, 0.37),
        *_quality_row("musiccm, 1 steps", 32.12, 3.31, 0.23),
    ],
    [
        Smaller("4 steps are nearer to real music than 1", "musiccm, 4 steps", "musiccm, 1 steps", FAD),
        Smaller("50 steps of the teacher are nearer still", "musiccm_teacher, 50 steps", "musiccm, 4 steps", FAD),
        Smaller("4 steps are faster than the teacher", "musiccm_teacher, 50 steps", "musiccm, 4 steps", SPEED),
        Smaller("1 step is faster than 4", "musiccm, 4 steps", "musiccm, 1 steps", SPEED),
    ],
    "Inception score and KL need the PANN classifier, and are left out.",
)

MUSICCM_DISCRIMINATOR = Experiment(
    "The discriminator of MusicCM",
    "MusicCM, arXiv 2404.13358, table 3",
    "Audiostock, 4 steps; Frechet distance of PANN; similarity of text and audio by CLAP",
    Ablate("recipes/ablations/distillation", ["base", "no_discriminator"], [4]),
    [
        *_columns("base, 4 steps", FD_pann=(27.13, FAD[0]), TA_similarity=(0.275, None)),
        *_columns("no_discriminator, 4 steps", FD_pann=(28.65, FAD[0]), TA_similarity=(0.271, None)),
    ],
    [
        Smaller(
            "the discriminator brings samples nearer to real music", "base, 4 steps", "no_discriminator, 4 steps", FAD
        )
    ],
    "Inception score, KL and the row with CLAP's features are left out.",
)

MUSICCM_LONG = Experiment(
    "Long music of MusicCM from one shared canvas",
    "MusicCM, arXiv 2404.13358, section 3.3, figure 2 and table 4",
    "60 s; one picture, and scores of eight listeners (quality / relevance / musicality)",
    LongMusic("musiccm", 4, windows=4),
    [
        *_columns("MusicCM, 60 s", quality=(0.350, None), relevance=(0.291, None), musicality=(0.525, None)),
        *_columns("MusicLDM, 60 s", quality=(0.292, None), relevance=(0.275, None), musicality=(0.516, None)),
    ],
    [
        Smaller("a shared canvas hides the seams of its windows", "shared", "independent", ["seam_ratio"]),
        Smaller("a shared canvas makes neighbours alike", "independent", "shared", ["adjacent_similarity"]),
    ],
    "Listeners' scores have no counterpart; the paper has no measure of coherence, so both of ours are our own.",
)

EXPERIMENTS: dict[str, Experiment] = {
    "melody-speed": MELODY_SPEED,
    "melody-schedule": MELODY_SCHEDULE,
    "melody-network": MELODY_NETWORK,
    "melody-passes": MELODY_PASSES,
    "musiccm-quality": MUSICCM_QUALITY,
    "musiccm-discriminator": MUSICCM_DISCRIMINATOR,
    "musiccm-long": MUSICCM_LONG,
}
