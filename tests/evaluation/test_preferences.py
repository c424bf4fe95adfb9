"""Preferences and the Bradley-Terry order against other libraries, closed forms, and simulated listeners."""

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import expit

from melody_cm.evaluation.preferences import (
    Vote,
    bradley_terry,
    groups_of,
    preferences,
    wilson,
)
from melody_cm.evaluation.uncertainty import effective_count


def votes(*cast):
    """(first, second, choice, listener, prompt) or without the last two: one listener, a prompt each."""
    return [Vote(*one, *(() if len(one) > 3 else ("me", f"prompt {place}"))) for place, one in enumerate(cast)]


def simulated(random, listeners, prompts, each, taste=0.0, strengths=(0.6, 0.0, -0.6)):
    """Votes of listeners who each have a taste of their own."""
    cast = []
    for listener in range(listeners):
        heard = np.array(strengths) + random.normal(0, taste, 3) if taste else np.array(strengths)
        for _ in range(each):
            first, second = random.choice(3, 2, replace=False)
            won = float(random.random() < expit(heard[first] - heard[second]))
            cast.append(Vote(f"s{first}", f"s{second}", won, str(listener), str(random.integers(prompts))))
    return cast


@pytest.mark.parametrize(("won", "count"), [(7, 10), (10, 10), (0, 3), (55, 100)])
def test_wilsons_interval_is_that_of_scipy(won, count):
    expected = stats.binomtest(won, count).proportion_ci(0.95, method="wilson")
    assert wilson(won / count, float(count), stats.norm.ppf(0.975)) == pytest.approx(tuple(expected), abs=1e-12)


def test_votes_that_agree_within_groups_are_worth_one_a_group():
    groups = [group for group in "abcdefgh" for _ in range(5)]
    same = [float(group in "abc") for group in groups]
    # 3 of 8 groups say yes: the variance of a mean of 8 is p (1 - p) / 7.
    assert effective_count(same, groups) == pytest.approx(7)
    assert effective_count([1.0] * 40, groups) == 8
    mixed = [float(place % 2) for place in range(40)]
    assert effective_count(mixed, groups) > 30


def test_shares_are_counted_from_either_side_and_neither_is_half():
    cast = votes(("a", "b", 1.0), ("b", "a", 0.0), ("b", "a", 1.0), ("a", "b", 0.5))
    (one,) = preferences(cast)
    assert (one.first, one.second, one.wins, one.losses, one.neither) == ("a", "b", 2, 1, 1)
    assert one.share == 2.5 / 4
    assert one.low < one.share < one.high
    assert one.verdict == "too few to tell"


def test_the_test_decides_where_the_interval_leaves_out_a_half_and_all_pairs_are_corrected_together():
    cast = votes(*[("a", "b", 1.0)] * 11, ("a", "b", 0.0), *[("a", "c", 1.0)] * 7, *[("a", "c", 0.0)] * 5)
    clear, unclear = preferences(cast)
    for one in (clear, unclear):
        assert (one.p < 0.05) == (not one.low <= 0.5 <= one.high)
    assert clear.p_holm == pytest.approx(2 * clear.p)
    assert unclear.p_holm == pytest.approx(max(2 * clear.p, unclear.p))
    assert (clear.verdict, unclear.verdict) == ("preferred", "not distinguishable")


def test_groups_are_listeners_where_there_are_eight():
    cast = [Vote("a", "b", 1.0, str(listener), str(listener % 2)) for listener in range(8)]
    assert groups_of(cast)[0] == "listeners"
    assert groups_of(cast[:7]) == ("prompts", [str(listener % 2) for listener in range(7)])


def test_two_rows_have_the_strengths_and_the_errors_of_the_closed_form():
    cast = votes(*[("a", "b", 1.0)] * 14, *[("b", "a", 1.0)] * 6)
    better, worse = bradley_terry(cast)
    half = np.log(14.5 / 6.5) / 2  # A vote more without a winner.
    assert (better.row, better.value, worse.value) == ("a", pytest.approx(half), pytest.approx(-half))
    error = np.sqrt(1 / (21 * 14.5 / 21 * 6.5 / 21) / 4)
    assert (better.high - better.low) / 2 == pytest.approx(stats.t.ppf(0.975, 19) * error)


@pytest.mark.parametrize("each", [30, 400])  # Many votes: what all strengths have in common must not drift.
def test_strengths_are_those_of_a_general_optimizer(each):
    cast = simulated(np.random.default_rng(0), 3, 8, each)
    rows = ["s0", "s1", "s2"]
    drawn = [Vote(*pair, 0.5, "", "") for pair in (("s0", "s1"), ("s0", "s2"), ("s1", "s2"))]

    def surprise(strengths):
        known = dict(zip(rows, strengths, strict=True))
        chances = [expit(known[vote.first] - known[vote.second]) for vote in [*cast, *drawn]]
        choices = [vote.choice for vote in [*cast, *drawn]]
        return -sum(c * np.log(p) + (1 - c) * np.log(1 - p) for p, c in zip(chances, choices, strict=True))

    expected = optimize.minimize(surprise, np.zeros(3), tol=1e-10).x
    found = {one.row: one.value for one in bradley_terry(cast)}
    assert [found[row] for row in rows] == pytest.approx(list(expected - expected.mean()), abs=1e-4)
    assert sum(one.votes for one in bradley_terry(cast)) == 2 * len(cast)


def test_a_row_that_always_wins_has_a_finite_strength_and_unlinked_rows_are_refused():
    always = bradley_terry(votes(*[("a", "b", 1.0)] * 5))
    assert always[0].row == "a"
    assert np.isfinite(always[0].high)
    with pytest.raises(ValueError, match="a and c never met"):
        bradley_terry(votes(("a", "b", 1.0), ("c", "d", 1.0)))


def test_listeners_of_unlike_taste_make_intervals_wider_than_as_many_independent_votes():
    random = np.random.default_rng(1)
    alike = [simulated(random, 12, 16, 20) for _ in range(10)]
    unlike = [simulated(random, 12, 16, 20, taste=1.5) for _ in range(10)]
    widths = [
        np.mean([one.high - one.low for cast in casts for one in bradley_terry(cast)]) for casts in (alike, unlike)
    ]
    assert widths[1] > 1.3 * widths[0]
