"""Verdicts on the papers' claims from constructed measurements, and pages that keep the papers' figures apart."""

import json

import pytest
import torch
from scipy import stats
from toy_systems import toy_melody

from melody_cm.benchmark.ablation import Ablation, Cell
from melody_cm.benchmark.reproduce import EXPERIMENTS, Measurements, Number, as_dict, markdown
from melody_cm.benchmark.reproduce.claims import Difference, Equal, Smaller
from melody_cm.benchmark.reproduce.collect import from_ablation, from_comparison, from_long_music, from_passes

CLAIM = Smaller("a is nearer than b", "a", "b", ("fad_", "kad_"))


def numbers(a, b, quantity="fad_logmel"):
    return [Number("a", quantity, *a, n=64), Number("b", quantity, *b, n=64)]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ((1.0, 0.5, 1.5), (3.0, 2.0, 4.0), "holds"),
        ((3.0, 2.0, 4.0), (1.0, 0.5, 1.5), "does not hold"),
        ((1.0, 0.5, 2.1), (3.0, 2.0, 4.0), "not distinguishable"),
        ((3.0, 1.9, 4.0), (1.0, 0.5, 2.0), "not distinguishable"),
        ((1.0, None, None), (3.0, None, None), "not distinguishable"),
        ((1.0, 0.9, 1.1), (3.0, None, None), "not distinguishable"),
    ],
)
def test_only_intervals_that_part_decide(a, b, verdict):
    assert CLAIM.judge(Measurements(numbers(a, b))).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-2.0, -0.1, "holds"), (0.1, 2.0, "does not hold"), (-0.1, 2.0, "not distinguishable")],
)
def test_a_paired_difference_comes_first_whichever_way_round(low, high, verdict):
    contrary = numbers((3.0, 2.0, 4.0), (1.0, 0.5, 1.5))
    for pair in (
        Difference("a", "b", "fad_logmel", low, high, 3),
        Difference("b", "a", "fad_logmel", -high, -low, 3),
    ):
        found = CLAIM.judge(Measurements(contrary, [pair]))
        assert found.verdict == verdict
        assert f"3 pairs: difference within [{low:.4g}, {high:.4g}]" in found.because


def test_the_second_quantity_decides_where_the_first_has_no_interval():
    measured = Measurements(
        [*numbers((1.0, None, None), (3.0, None, None)), *numbers((1.0, 0.0, 1.5), (3.0, 2.0, 4.0), "kad_logmel")]
    )
    found = CLAIM.judge(measured)
    assert (found.verdict, found.because) == ("holds", "kad_logmel: [0, 1.5] against [2, 4]")


@pytest.mark.parametrize(("value", "verdict"), [(0.9568, "holds"), (0.9589, "does not hold")])
def test_what_is_counted_needs_no_interval(value, verdict):
    claim = Equal("saves 95.7 %", "10 s", "saved", 0.957, 0.0005)
    assert claim.judge(Measurements([Number("10 s", "saved by formula", value)])).verdict == verdict
    assert claim.judge(Measurements()).verdict == "not distinguishable"


def score(value, low, high, too_few=False):
    return {
        **{"value": value, "corrected": None, "low": low, "high": high, "method": "", "n_generated": 16},
        **{"n_reference": 64, "too_few": too_few},
    }


def comparison(too_few=False, pairs=16):
    def row(steps, distance, speed):
        return {
            "system": "melody",
            "num_steps": steps,
            "metrics": {"fad_logmel": score(distance, distance - 0.1, distance + 0.1, too_few)},
            "speed": {
                **{"times_real_time": speed, "times_real_time_range": [speed - 0.1, speed + 0.1]},
                **{"wall_seconds": 1 / speed, "repetitions": 5},
            },
        }

    pair = {"first": "melody, 10 steps", "second": "melody, 5 steps", "metric": "text_similarity_joint"}
    return {
        "rows": [row(5, 3.0, 4.0), row(10, 2.0, 2.0), {**row(20, 2.05, 1.0), "speed": None}],
        "comparisons": [{**pair, "difference": 0.1, "low": 0.05, "high": 0.2, "n": pairs, "verdict": "better"}],
    }


def verdicts(name, measured):
    return {claim.text: claim.judge(measured).verdict for claim in EXPERIMENTS[name].claims}


def test_a_comparison_is_judged_by_its_intervals_pairs_and_speeds():
    assert verdicts("melody-speed", from_comparison(comparison())) == {
        "10 steps are nearer to real music than 5": "holds",
        "20 steps are nearer to real music than 10": "not distinguishable",
        "10 steps follow the text better than 5": "holds",
        "20 steps follow the text better than 10": "not distinguishable",
        "5 steps are faster than 10": "holds",
        "10 steps are faster than 20": "not distinguishable",
    }


def test_too_few_clips_or_prompts_decide_nothing():
    found = verdicts("melody-speed", from_comparison(comparison(too_few=True, pairs=4)))
    assert found["10 steps are nearer to real music than 5"] == "not distinguishable"
    assert found["10 steps follow the text better than 5"] == "not distinguishable"


def test_an_ablation_is_judged_seed_by_seed():
    mse = {"dual_path": [0.30, 0.32, 0.31], "unet1d": [0.40, 0.42, 0.41], "unet2d": [0.29, 0.33, 0.31]}
    gain = {"dual_path": [5.0, 5.1, 5.2], "unet1d": [6.0, 6.1, 6.2], "unet2d": [4.0, 4.1, 4.2]}
    cells = [
        Cell(recipe, seed, None, {"velocity_mse": mse[recipe][seed], "si_snri": gain[recipe][seed]})
        for recipe in mse
        for seed in range(3)
    ]
    measured = from_ablation(Ablation("dual_path", [0, 1, 2], cells))
    assert list(verdicts("melody-network", measured).values()) == [
        "holds",
        "not distinguishable",
        "does not hold",
        "holds",
    ]
    number = measured.number("unet1d", "velocity_mse")
    low, high = stats.ttest_1samp(mse["unet1d"], 0).confidence_interval(0.95)
    assert (number.value, number.low, number.high, number.n) == pytest.approx((0.41, low, high, 3))


def test_formulas_and_counted_passes():
    measured = from_passes({"melody": toy_melody()}, {"melody": 20, "musiclm": 1}, "calm piano")
    formulas = {(one.row, one.quantity.split()[0]): one.value for one in measured.numbers if one.row != "counted here"}
    assert formulas["10 s", "musiclm"] == 6250
    assert formulas["10 s", "melody"] == 270
    assert formulas["30 s", "saved"] == pytest.approx(1 - 770 / 18750)
    # The toy's language model has no body whose calls could be counted: 1 s at 25 codes a second is missing.
    assert measured.number("counted here", "melody beyond").value == -25
    found = verdicts("melody-passes", measured)
    assert found["MeLoDy saves 95.7 % of them for 10 s"] == "holds"
    assert found["MeLoDy saves 99.6 % of them for 30 s"] == "does not hold"
    assert found["MeLoDy really makes the passes of its formula"] == "does not hold"
    assert found["MusicLM really makes the passes of its formula"] == "not distinguishable"


def test_long_music_is_compared_clip_by_clip_and_constant_clips_are_left_out():
    independent = torch.tensor([2.0, 3.0, 4.0, 5.0, float("nan")])
    shared = torch.tensor([1.0, 2.1, 2.9, 4.0, 1.0])
    values = {"independent": {"seam_ratio": independent}, "shared": {"seam_ratio": shared}}
    measured = from_long_music(values, "independent")
    low, high = stats.ttest_1samp((shared - independent)[:4].numpy(), 0).confidence_interval(0.95)
    (difference,) = measured.differences
    assert (difference.low, difference.high) == pytest.approx((low, high), rel=1e-4)
    assert (difference.first, difference.second, difference.n) == ("shared", "independent", 4)
    assert measured.number("independent", "seam_ratio").value == pytest.approx(3.5)
    assert verdicts("musiccm-long", measured)["a shared canvas hides the seams of its windows"] == "holds"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_figures_of_the_paper_are_never_among_ours(name):
    experiment = EXPERIMENTS[name]
    data = as_dict(experiment, Measurements(), {"size": "tiny"})
    assert data["measured"]["numbers"] == []
    assert len(data["paper"]["figures"]) == len(experiment.published)
    assert {claim["verdict"] for claim in data["claims"]} == {"not distinguishable"}
    table = [line for line in markdown(experiment, Measurements(), {"size": "tiny"}).splitlines() if line[:2] == "| "]
    figures = [line.split(" | ") for line in table if " | not measured | " in line]
    assert len(figures) == len(experiment.published)
    for cells, figure in zip(figures, experiment.published, strict=True):
        assert cells[2] == f"{figure.value:g}"
        assert cells[3:] == ["not measured", "-", "- |"]


def test_a_page_shows_ours_beside_the_papers_and_what_has_no_counterpart_below():
    measured = Measurements(
        [
            Number("melody, 5 steps", "fad_logmel", 31.25, 30.5, 32.0, 64),
            Number("melody, 5 steps", "kad_logmel", float("nan"), n=64),
        ]
    )
    experiment = EXPERIMENTS["melody-speed"]
    page = markdown(experiment, measured, {"size": "tiny", "data": "procedural music", "seeds": [0]})
    assert "| melody, 5 steps | FAD | 7.23 | fad_logmel | 31.25 [30.5, 32] | 64 |" in page
    assert "| melody, 5 steps | - | - | kad_logmel | nan | 64 |" in page
    assert "size tiny, data procedural music." in page
    assert page.count("**not distinguishable**") == len(experiment.claims)
    data = as_dict(experiment, measured, {})
    assert json.loads(json.dumps(data, allow_nan=False))["measured"]["numbers"][1]["value"] is None


# Typed by hand from the papers' tables a second time.
def test_the_papers_figures():
    def column(name, quantity):
        return [figure.value for figure in EXPERIMENTS[name].published if figure.quantity == quantity]

    assert column("melody-speed", "FAD") == [7.23, 5.93, 5.41]
    assert column("melody-speed", "times real time on a V100") == [7.5, 4.4, 2.4]
    assert column("melody-speed", "MCC") == [0.49, 0.52, 0.53]
    assert column("melody-schedule", "FAD") == [8.52, 6.31, 5.93, 5.41]
    assert column("melody-network", "velocity MSE") == [0.13, 0.15, 0.12]
    assert column("melody-network", "SI SNRi in dB") == [5.33, 4.96, 6.15]
    assert column("musiccm-quality", "FD pann") == [26.67, 27.13, 32.12]
    assert column("musiccm-quality", "FD vgg") == [2.40, 2.48, 3.31]
    assert column("musiccm-quality", "seconds for 10 s on an A100") == [2.19, 0.37, 0.23]
    assert column("musiccm-discriminator", "FD pann") == [27.13, 28.65]
    assert column("musiccm-discriminator", "TA similarity") == [0.275, 0.271]
    assert column("musiccm-long", "quality") == [0.350, 0.292]
