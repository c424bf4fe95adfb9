"""Every kind of interval and of family of tests in 200 contests whose truth is known (docs/evaluation.md has a table).

`pytest tests/evaluation/test_coverage.py -m 'slow or not slow' -s` prints the numbers.
"""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, logit

from melody_cm.evaluation.frechet import frechet_distance, frechet_score
from melody_cm.evaluation.kernel import SCALE as PER_CENT
from melody_cm.evaluation.kernel import kernel_score
from melody_cm.evaluation.memorization import memorization
from melody_cm.evaluation.preferences import Vote, bradley_terry, preferences
from melody_cm.evaluation.results import Row, compare_rows, paired
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.tags import inception_score, prompt_judge, tag_divergence
from melody_cm.evaluation.text_correlation import text_correlation
from melody_cm.evaluation.uncertainty import student, two_way
from melody_cm.interfaces import EmbeddingIdentity

CONTESTS = 200
WIDTH = 6


def identity(name="toy", width=WIDTH):
    return EmbeddingIdentity(name, "1", "none", 16000, "1 s", width, True)


def names_of(prompts, takes):
    return [f"prompt {place}" for place in range(prompts) for _ in range(takes)], [
        f"take {take}" for _ in range(prompts) for take in range(takes)
    ]


def grouped(random, groups, each, between, within=1.0, width=()):
    """Numbers (groups, each, *width); those of a group have a part in common."""
    return between * random.normal(size=(groups, 1, *width)) + within * random.normal(size=(groups, each, *width))


# Means over prompts and takes, and their differences.


def layout(random, prompts, takes, of_prompts, of_takes):
    """Numbers (prompts, takes) around 0."""
    return grouped(random, prompts, takes, of_prompts) + of_takes * random.normal(size=(1, takes))


def named(x):
    return {f"prompt {p}/take {t}": value for p, row in enumerate(x.tolist()) for t, value in enumerate(row)}


def mean(random, *case):
    tested = student(*two_way(named(layout(random, *case))))
    return [(tested.low, 0.0, tested.high)]


def difference_of_means(random, prompts, takes):
    hard = 2 * random.normal(size=(prompts, 1))  # What is hard is hard for both.
    rows = [
        Row(str(shift), {}, 1, {"x": named(hard + shift + layout(random, prompts, takes, 0.4, 0))})
        for shift in (0.5, 0)
    ]
    one = paired("x", *rows)
    return [(one.low, 0.5, one.high)]


# Distances: a reference of pieces, clips of prompts.

SCALE, SHIFT = torch.linspace(1.0, 0.3, WIDTH).double(), torch.tensor([0.7] + [0.0] * (WIDTH - 1)).double()
REAL, MADE = 0.4, 0.3  # The share of the variance that clips of a piece, of a prompt have in common.


def new_names(random, count):
    """Of pieces or prompts, so that they fall into other groups in every contest."""
    return [str(name) for name in random.integers(2**40, size=count)]


def side(random, names, each, common, scale=1.0, shift=0.0):
    """Clips of 4 frames."""
    x = grouped(random, len(names), each, common**0.5, 0.3**0.5, (1, WIDTH))
    x = x + (0.7 - common) ** 0.5 * random.normal(size=(len(names), each, 4, WIDTH))
    statistics = EmbeddingStatistics.empty(WIDTH)
    clips = torch.from_numpy(x).flatten(0, 1) * SCALE * scale + SHIFT * shift
    statistics.add(clips, [name for name in names for _ in range(each)])
    return statistics


def true_distance(scale, shift):
    return frechet_distance(SHIFT * shift, torch.diag((scale * SCALE) ** 2), 0 * SHIFT, torch.diag(SCALE**2))


def true_discrepancy(scale, shift, common, bandwidth):
    """Of the means of clips: 100 times the squared maximum mean discrepancy of two normal distributions."""
    made, real = ((share + 0.3 + (0.7 - share) / 4) * SCALE**2 for share in (common, REAL))
    made = made * scale**2

    def kernel(variance, apart):
        total = bandwidth**2 + variance
        return ((bandwidth**2 / total).sqrt() * torch.exp(-(apart**2) / (2 * total))).prod().item()

    return PER_CENT * (
        kernel(2 * made, 0 * SHIFT) + kernel(2 * real, 0 * SHIFT) - 2 * kernel(made + real, shift * SHIFT)
    )


def distance(random, measure, pieces, prompts, common=MADE):
    real = side(random, new_names(random, pieces), 10, REAL)
    made = side(random, new_names(random, prompts), 3, common, 1.3, 1.0)
    score = MEASURES[measure](made, real, identity())
    assert score.groups == {"generated": prompts, "reference": pieces}
    return [(score.low, truth_of(score, measure, 1.0, common), score.high)]


def truth_of(score, measure, shift, common):
    if measure == "fad":
        return true_distance(1.3, shift)
    return true_discrepancy(1.3, shift, common, score.details["bandwidth"])


MEASURES = {"fad": frechet_score, "kad": kernel_score}


def rows_of_distances(random, measures, pieces, prompts, shifts):
    """Rows of systems that answer the same prompts, against the same reference."""
    real, names = side(random, new_names(random, pieces), 10, REAL), new_names(random, prompts)
    made = [side(random, names, 3, MADE, 1.3, shift) for shift in shifts]
    return [
        Row(str(place), {f"{measure}_toy": MEASURES[measure](one, real, identity()) for measure in measures}, 1)
        for place, one in enumerate(made)
    ]


def difference_of_distances(random, measure, pieces, prompts):
    rows, shifts = rows_of_distances(random, [measure], pieces, prompts, (1.0, 0.5)), (1.0, 0.5)
    one = paired(f"{measure}_toy", *rows)
    score = rows[0].metrics[f"{measure}_toy"]
    truths = [truth_of(score, measure, shift, MADE) for shift in shifts]
    return [(one.low, truths[0] - truths[1], one.high)]


# Texts and tags.


def texts_and_clips(random, prompts, takes, effect):
    text = torch.from_numpy(random.normal(size=(prompts, 8))).repeat_interleave(takes, 0)
    return text, effect * text + torch.from_numpy(grouped(random, prompts, takes, 0.7, 1.0, (8,))).flatten(0, 1) + 0.5


def correlated(random, prompts, takes, effect):
    return text_correlation(
        *texts_and_clips(random, prompts, takes, effect), identity(), None, *names_of(prompts, takes)
    )


def text(random, prompts, takes, effect):
    truth, score = true_correlation(effect), correlated(random, prompts, takes, effect)
    excess = [score.details[key] for key in ("excess_low", "excess_high")]
    return [(score.low, truth.value, score.high), (excess[0], truth.details["excess"], excess[1])]


@functools.cache
def true_correlation(effect):
    return correlated(np.random.default_rng(0), 20_000, 1, effect)


TAGS = ("guitar", "piano")


def areas(random, prompts, takes, effect):
    """Of every second prompt, which names a guitar: the area under the curve of two normal distributions."""
    guitar = np.arange(prompts) % 2 == 0
    logits = (grouped(random, prompts, takes, 1.0, 0.5) + effect * guitar[:, None]).ravel()
    captions = ["a guitar" if one else "a flute" for one in np.repeat(guitar, takes)]
    logits = torch.from_numpy(np.stack([logits, logits], 1)).float()
    score = prompt_judge(logits, TAGS, captions, names_of(prompts, takes)[0], identity())["prompt_auc_guitar_toy"]
    return [(score.low, stats.norm.cdf(effect / math.sqrt(2 * 1.25)), score.high)]


def divergence_scores(random, pieces, each):
    pair = (torch.from_numpy(grouped(random, pieces, each, 1.0, 1.0, (8,))).flatten(0, 1).float() for _ in range(2))
    return tag_divergence(*pair, names_of(pieces, each)[0], identity())


@functools.cache
def true_divergences():
    return {key: score.value for key, score in divergence_scores(np.random.default_rng(0), 50_000, 1).items()}


def divergence(random, pieces, each):
    found = divergence_scores(random, pieces, each)
    return [(score.low, true_divergences()[key], score.high) for key, score in found.items()]


def inception_scores(random, prompts, takes, between):
    logits = torch.from_numpy(grouped(random, prompts, takes, between, 0.7, (12,))).flatten(0, 1)
    logits = (logits + torch.linspace(-2, 1, 12)).float()
    return inception_score(logits, names_of(prompts, takes)[0], identity())["inception_toy"]


def inception(random, prompts, takes, between):
    """It grows with n: the truth is its mean over many contests of this n."""
    score = inception_scores(random, prompts, takes, between)
    return [(score.low, true_inception(prompts, takes, between), score.high)]


@functools.cache
def true_inception(*case):
    random = np.random.default_rng(0)
    return np.mean([inception_scores(random, *case).value for _ in range(1000)])


def copies(random, prompts, takes, between):
    """A clip repeats the only training clip where a number is above a threshold."""
    wanted = stats.norm.isf(0.3) * math.hypot(between, 1.0)
    far = torch.from_numpy(grouped(random, prompts, takes, between) > wanted).flatten()
    clips = torch.where(far[:, None], torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    groups = names_of(prompts, takes)[0]
    score = memorization(clips, [torch.tensor([[1.0, 0.0]])], identity(), groups)["sim_aa@90_toy"]
    return [(score.low, 0.3, score.high)]


# Votes.

STRENGTHS = (0.6, 0.0, -0.6)


def cast(random, listeners, each, taste, strengths=STRENGTHS):
    """Votes of listeners who each have a taste of their own, on 8 prompts."""
    votes = []
    for listener in range(listeners):
        heard = np.array(strengths) + taste * random.normal(size=3)
        for _ in range(each):
            first, second = random.choice(3, 2, replace=False)
            won = float(random.random() < expit(heard[first] - heard[second]))
            votes.append(Vote(f"s{first}", f"s{second}", won, str(listener), str(random.integers(8))))
    return votes


def shares(taste):
    """How often the first of two rows is preferred, 0.6 and 1.2 apart, over all tastes."""
    taste = math.sqrt(2) * taste * stats.norm.ppf(np.linspace(0.0005, 0.9995, 1000))
    return [expit(apart + taste).mean() for apart in (0.6, 1.2)]


def preference(random, listeners, each, taste):
    pairs = {(one.first, one.second): one for one in preferences(cast(random, listeners, each, taste))}
    one, share = pairs.get(("s0", "s1")), shares(taste)[0]
    if one is None:
        one, share = pairs["s1", "s0"], 1 - share
    return [(one.low, share, one.high)]


def strength(random, listeners, each, taste):
    truth = sum(logit(share) for share in shares(taste)) / 3  # Of the best row, as all votes together see it.
    return [
        (one.low, truth, one.high) for one in bradley_terry(cast(random, listeners, each, taste)) if one.row == "s0"
    ]


slow = pytest.mark.slow
CASES = [
    pytest.param(kind, case, id=f"{kind.__name__}, {words}", marks=marks)
    for kind, case, words, *marks in [
        (mean, (8, 3, 0.5, 0.0), "8 prompts x 3 takes"),
        (mean, (24, 3, 0.5, 0.0), "24 x 3"),
        (mean, (16, 4, 0.0, 0.0), "16 x 4, deaf to the prompt"),
        (mean, (24, 3, 3.0, 0.0), "24 x 3, prompts differ much"),
        (mean, (24, 3, 0.5, 0.2), "24 x 3, takes share a little"),
        (difference_of_means, (8, 3), "8 prompts x 3 takes"),
        (difference_of_means, (24, 3), "24 x 3"),
        *(
            (kind, (measure, *case), f"{measure}, {words}", slow)
            for measure in ("fad", "kad")
            for kind, case, words in [
                (distance, (10, 24), "10 pieces, 24 prompts x 3"),
                (distance, (25, 24), "25 pieces, 24 x 3"),
                (distance, (25, 10), "25 pieces, 10 x 3"),
                (distance, (25, 24, 0.0), "25 pieces, 24 x 3, deaf to the prompt"),
                (difference_of_distances, (10, 24), "10 pieces, 24 prompts x 3"),
                (difference_of_distances, (25, 10), "25 pieces, 10 x 3"),
            ]
        ),
        (text, (8, 3, 1.0), "8 prompts x 3 takes"),
        (text, (24, 3, 1.0), "24 x 3"),
        (text, (24, 3, 0.0), "24 x 3, deaf to the prompt"),
        (areas, (24, 3, 1.0), "24 prompts x 3"),
        (areas, (100, 1, 1.0), "100 x 1", slow),
        (areas, (24, 3, 0.0), "24 x 3, deaf to the prompt", slow),
        (divergence, (10, 5), "10 pieces x 5 clips"),
        (divergence, (50, 1), "50 x 1"),
        (inception, (24, 4, 1.0), "24 prompts x 4"),
        (inception, (16, 8, 1.0), "16 x 8", slow),
        (inception, (200, 1, 1.0), "200 x 1", slow),
        (copies, (10, 4, 1.0), "10 prompts x 4"),
        (copies, (24, 3, 1.0), "24 x 3"),
        (copies, (100, 1, 0.0), "100 x 1"),
        *(
            (kind, case, words, slow)
            for kind in (preference, strength)
            for case, words in [
                ((12, 10, 0.0), "12 listeners x 10 votes"),
                ((12, 10, 0.7), "12 x 10, of unlike taste"),
                ((20, 40, 0.7), "20 x 40, of unlike taste"),
                ((1, 40, 0.0), "1 listener, 8 prompts"),
            ]
        ),
    ]
]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_an_interval_holds_the_truth_in_92_of_100_contests(kind, case, request):
    random = np.random.default_rng(CONTESTS)
    found = [kind(random, *case) for _ in range(CONTESTS)]
    held = np.mean([[low <= truth <= high for low, truth, high in one] for one in found], axis=0)
    print(f"\n{request.node.callspec.id}: {', '.join(f'{one:.3f}' for one in held)}")
    assert min(held) >= 0.92


@pytest.mark.parametrize("case", [(24, 3, 0.5, 0.5), (24, 3, 0.1, 2.0)])
def test_luck_that_all_prompts_share_by_their_takes_is_counted_as_far_as_so_few_takes_tell(case):
    """Comparisons rule it out, by noise of its own for each clip. Without the count of takes hardly any would hold."""
    random, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(CONTESTS):
        numbers = named(layout(random, *case))
        value, parts = two_way(numbers)
        for place, known in enumerate((parts, parts[:1])):
            low, high, _ = student(value, known)
            held[place] += low <= 0 <= high
    print(f"\n{case}: {held[0] / CONTESTS:.3f}, without {held[1] / CONTESTS:.3f}")
    assert held[0] >= 0.85 * CONTESTS
    assert held[1] < 0.65 * CONTESTS


@functools.cache
def contest_of(kind, number):
    """What one of the contests says."""
    return kind(np.random.default_rng(number))


def families(kind):
    """How many of the contests call anything different."""
    alarms = 0
    for contest in range(CONTESTS):
        found = contest_of(kind, contest)
        alarms += any(one.verdict not in ("not distinguishable", "too few to tell") for one in found)
    print(f"\n{kind.__name__}: {len(found)} tests a family, false alarms {alarms / CONTESTS:.3f}")
    return alarms / CONTESTS


def five_rows_two_means(random):
    prompts, rows = random.normal(size=(2, 24, 1)), []  # What is hard is hard for all.
    for label in range(5):
        samples = {f"fad_{key}": named(prompts[key] + layout(random, 24, 3, 0.3, 0.0)) for key in range(2)}
        rows.append(Row(str(label), {}, 1, samples))
    return compare_rows(rows, fewest=8)


def three_rows_two_distances(random):
    return compare_rows(rows_of_distances(random, MEASURES, 25, 24, (1.0, 1.0, 1.0)), fewest=8)


def three_rows_of_votes(random):
    return preferences(cast(random, 12, 10, 0.7, (0.0, 0.0, 0.0)))


@pytest.mark.parametrize(
    ("family", "tests"),
    [
        (five_rows_two_means, 20),
        pytest.param(three_rows_two_distances, 6, marks=slow),
        pytest.param(three_rows_of_votes, 3, marks=slow),
    ],
)
def test_identical_systems_are_called_different_in_few_families(family, tests):
    assert len(contest_of(family, 0)) == tests
    assert families(family) <= 0.06


def test_without_the_correction_they_would_be_in_many():
    found = [contest_of(five_rows_two_means, contest) for contest in range(CONTESTS)]
    assert np.mean([any(one.p < 0.05 for one in tests) for tests in found]) > 0.2


def test_different_systems_are_told_apart():
    random = np.random.default_rng(2)
    rows = [Row(str(label), {}, 1, {"fad_x": named(layout(random, 24, 3, 0.3, 0.0) + label)}) for label in range(2)]
    (one,) = compare_rows(rows, fewest=8)
    assert (one.verdict, one.n) == ("better", 24)
    few = [Row(row.label, {}, 1, {"fad_x": dict(list(row.samples["fad_x"].items())[:21])}) for row in rows]
    assert compare_rows(few, fewest=8) == []  # Seven prompts.


def test_a_system_that_is_farther_from_the_reference_is_worse():
    rows = rows_of_distances(np.random.default_rng(0), ["fad"], 25, 24, (0.0, 4.0))
    (found,) = compare_rows(rows, fewest=8)
    assert (found.verdict, found.n) == ("better", 24)
    apart = [row.metrics["fad_toy"] for row in rows]
    assert found.difference == pytest.approx(apart[0].corrected - apart[1].corrected)
    # In pairs more is told than by the two intervals: the reference is the same.
    assert found.high - found.low < sum(one.high - one.low for one in apart)
