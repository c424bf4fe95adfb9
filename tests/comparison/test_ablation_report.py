"""The page of an ablation: the same page as a comparison's, without anything to listen to."""

import re

import pytest
from scipy import stats
from test_ablation import results_of

from melody_cm.comparison.report.page import write_report

DISTANCES = {"linear": {5: [20.0, 22.0, 21.0], 10: [10.0, 11.0, 12.0]}, "uniform": {5: [30.0, 31.0, 33.0]}}
METADATA = {"folder": "recipes/ablations/angle_<b>schedule", "command": "melody-cm ablate x --seeds 0,1,2"}


def ablation(distances=DISTANCES, seeds=(0, 1, 2)):
    values = {(recipe, None): {"si_snri": [5.0 + seed for seed in seeds]} for recipe in ("linear", "uniform")} | {
        (recipe, num_steps): {"fad_logmel": [numbers[seed] for seed in seeds]}
        for recipe, by_steps in distances.items()
        for num_steps, numbers in by_steps.items()
    }
    return results_of(values, baseline="linear", clips=64, **METADATA)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(ablation(), tmp_path_factory.mktemp("ablated"))


def test_the_page_holds_table_verdicts_command_and_identities_and_asks_for_nothing(page):
    text = page.read_text()
    assert "<td>31.33 ± 1.5<small>(worse)</small></td>" in text
    assert '<th scope="row">uniform, 5 steps</th><td>linear, 5 steps</td><td>fad_logmel</td>' in text
    assert "melody-cm ablate x --seeds 0,1,2" in text
    assert "<dt>Judge logmel</dt><dd>logmel/1 (hand-made, 1 s, 16000 Hz by soxr HQ)" in text
    assert "uniform against linear: worse by fad_logmel at 5 steps (10.33 [" in text
    assert "angle_&lt;b&gt;schedule" in text
    assert "angle_<b>" not in text
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert "://" not in text


def test_curves_stand_at_mean_and_interval_of_the_seeds(page):
    text = page.read_text()
    values = DISTANCES["uniform"][5]
    low, high = stats.t.interval(0.95, 2, sum(values) / 3, stats.sem(values))
    assert f"uniform, 5 steps: fad_logmel 31.33 [{low:.4g}, {high:.4g}]" in text
    assert text.count('class="chart"') == 1
    assert text.count('class="point"') == 3
    assert text.count("<polyline") == 1  # A single point has no line.


def test_there_is_nothing_to_listen_to(page):
    text = page.read_text()
    assert "<audio" not in text
    assert 'id="pairs"' not in text
    assert "#listen" not in text


def test_one_seed_has_no_bars_and_measures_without_samples_no_curves(tmp_path):
    text = write_report(ablation(seeds=(0,)), tmp_path).read_text()
    assert "fad_logmel 20, no interval" in text
    assert 'class="interval"' not in text
    assert "Pair by pair" not in text
    assert "One seed a recipe: there are no verdicts" in text
    text = write_report(ablation({}), tmp_path).read_text()
    assert 'id="charts"' not in text
    assert 'href="#charts"' not in text


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), pytest.param(500, "dark", marks=pytest.mark.slow)])
def test_the_page_works_in_a_browser(page, browser, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, requests = [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    tab.locator(".point").last.focus()
    assert tab.locator("#told").inner_text().startswith("uniform, 5 steps: fad_logmel 31.33 [")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    targets = tab.evaluate("[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) !== null)")
    assert targets == [True] * 4
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    tab.close()
