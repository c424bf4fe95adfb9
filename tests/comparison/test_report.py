"""The report page: its charts against arithmetic, its content, and what a browser makes of it."""

import json
import math
import re

import pytest
import torch

from melody_cm.comparison.report.charts import Axis, Chart, Point
from melody_cm.comparison.report.clips import LOUDNESS, PEAK, loudness_gain, sound_uri
from melody_cm.comparison.report.page import comparison_key, environment, write_report
from melody_cm.comparison.votes import read_votes
from melody_cm.data import write_audio
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Difference, Results, Row

RATE = 16000
EMBEDDING = {
    "name": "logmel",
    "version": "1",
    "weights": "none",
    "sample_rate": RATE,
    "window": "1 s",
    "width": 32,
    "trained": False,
    "resampler": "soxr HQ",
}
PROMPTS = ["calm piano", "<b>loud</b> & </script><script>alert(1)</script>"]


def score(value, low=None, high=None):
    return Score(value, None, low, high, "jackknife", 4, 4, True, EMBEDDING)


def row(system, num_steps, value, pace, **interval):
    clips = [
        {"prompt": prompt, "seed": seed, "file": f"audio/{system}/{num_steps}/prompt{prompt:03d}_seed{seed}.wav"}
        for seed in (0, 1)
        for prompt in range(len(PROMPTS))
    ]
    speed = {"times_real_time": pace, "times_real_time_range": [pace / 2, 2 * pace], "steady": False}
    facts = {"prompt_sensitivity": 0.5, "silent_clips": 0, "speed": speed, "clips": clips}
    return Row(system, {"fad_logmel": score(value, **interval)}, num_steps, facts=facts)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    rows = [
        row("melody", 5, 20.0, 8.0, low=15.0, high=25.0),
        row("melody", 20, 10.0, 2.0),
        row("musiccm", 1, 12.0, 30.0),
    ]
    for one in rows:
        for clip in one.facts["clips"]:
            (folder / clip["file"]).parent.mkdir(parents=True, exist_ok=True)
            tone = torch.sin(torch.arange(RATE) * (0.05 + 0.02 * clip["prompt"])) * 0.3
            write_audio(folder / clip["file"], tone, RATE)
    answer = {"prompt": 0, "caption": "piano, <i>calm</i>", "file": "audio/real/prompt000.wav"}
    (folder / answer["file"]).parent.mkdir(parents=True)
    write_audio(folder / answer["file"], torch.sin(torch.arange(RATE) * 0.1) * 0.3, RATE)
    metadata = {"prompts": PROMPTS, "seeds": [0, 1], "embeddings": [EMBEDDING], "command": "melody-cm compare x"}
    metadata |= {"size": "tiny", "corpus": "procedural", "real_clips": [answer]}
    pair = Difference(rows[0].title, rows[1].title, "text_similarity_joint", -1.0, -1.5, -0.5, 8, 0.01, 0.02)
    results = Results("compare", metadata, rows, [pair])
    return results, folder, write_report(results, folder)


def test_axes_place_numbers_by_difference_or_by_ratio():
    axis, falling = Axis([0.0, 10.0], 100.0, 200.0), Axis([0.0, 10.0], 200.0, 100.0)
    room = 0.8 / 11.6  # 8 % of the reach on either side.
    assert [axis.place(value) for value in (0.0, 5.0, 10.0)] == pytest.approx(
        [100 + 100 * room, 150, 200 - 100 * room], abs=0.05
    )
    assert falling.place(0.0) == pytest.approx(300 - axis.place(0.0), abs=0.05)
    logarithmic = Axis([1.0, 100.0], 0.0, 50.0, logarithmic=True)
    assert logarithmic.place(10.0) == pytest.approx(25)
    assert [text for text, _ in logarithmic.ticks()] == ["1", "2", "5", "10", "20", "50", "100"]
    assert [text for text, _ in axis.ticks()] == ["0", "5", "10"]


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-2.0, 5.0], [1e-3, 1e3]])
def test_every_value_has_room(values):
    for logarithmic in (False, True):
        if logarithmic and min(values) <= 0:
            continue
        axis = Axis(values, 0.0, 100.0, logarithmic)
        assert all(0 < axis.place(value) < 100 for value in values)
        assert len(axis.ticks()) >= 2


def test_points_stand_where_their_numbers_are_and_say_them():
    points = [
        Point("a", 1.0, 2.0, 1.0, 3.0, "a at 1"),
        Point("a", 10.0, 4.0, None, None, "a at 10"),
        Point("b", 3.0, 3.0, None, None, "b"),
    ]
    template = environment().get_template("chart.svg")
    svg = str(template.module.chart(Chart("title", "x", "y", "caption", points)))
    place = r'<path class="shape" transform="translate\(([\d.]+) ([\d.]+)\)'
    (x0, y0), (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in re.findall(place, svg))
    assert (x2 - x0) / (x1 - x0) == pytest.approx(math.log10(3), abs=1e-3)
    assert (y2 - y0) / (y1 - y0) == pytest.approx(0.5, abs=1e-3)
    low, high = map(float, re.search(r'class="interval" d="M[\d.]+ ([\d.]+)V([\d.]+)', svg).groups())
    assert (low + high) / 2 == pytest.approx(y0, abs=0.1)
    assert low - high == pytest.approx(y0 - y1, abs=0.2)
    assert svg.count('tabindex="0"') == 3
    assert 'aria-label="a at 10"' in svg


def test_all_clips_sound_equally_loud_unless_their_peaks_forbid_it():
    quiet = 0.01 * torch.sin(torch.arange(8000.0))
    assert (quiet * loudness_gain(quiet)).square().mean().sqrt().item() == pytest.approx(LOUDNESS, rel=1e-3)
    click = torch.zeros(8000)
    click[0] = 0.5
    assert (click * loudness_gain(click)).max().item() == pytest.approx(PEAK)
    assert loudness_gain(torch.zeros(10)) == 1.0


def test_sound_is_compressed(tmp_path):
    write_audio(tmp_path / "x.wav", torch.sin(torch.arange(10 * RATE) * 0.1) * 0.3, RATE)
    assert len(sound_uri(tmp_path / "x.wav")) < 0.5 * (tmp_path / "x.wav").stat().st_size


def test_the_page_holds_everything_and_asks_for_nothing(comparison):
    text = comparison[2].read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert "://" not in re.sub(r"data:[^\"]+", "", text)
    assert text.count("<audio") == text.count("<img") == 3 * len(PROMPTS) + 1
    assert text.index("piano, &lt;i&gt;calm&lt;/i&gt;") < text.index('id="clip-0-melody-5"')  # Real music comes first.
    assert "melody, 5 steps: fad_logmel 20 [15, 25], 8 times real time" in text
    assert "melody-cm compare x" in text
    assert "hand-made" in text
    assert "<td>text_similarity_joint</td><td>-1<small>[-1.5, -0.5]</small></td><td>0.02</td><td>worse</td>" in text
    assert "<td>20 †<small>[15, 25]</small></td>" in text  # The interval stands below its number.


def test_prompts_cannot_smuggle_markup_in(comparison):
    text = comparison[2].read_text()
    assert "<b>loud" not in text
    assert "<script>alert" not in text
    assert "&lt;b&gt;loud" in text


def test_prompts_without_room_are_left_out_and_counted(comparison, monkeypatch):
    results, folder, _ = comparison
    monkeypatch.setattr("melody_cm.comparison.report.clips.SIZE_LIMIT", 1)
    assert "2 more prompt(s) are left out" in write_report(results, folder).read_text()
    monkeypatch.undo()
    write_report(results, folder)


def opened(browser, file, width=1200, scheme="light"):
    """A tab with the page, and what it complained about and asked for."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    return page, complaints, requests


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), pytest.param(500, "dark", marks=pytest.mark.slow)])
def test_the_page_works_in_a_browser(comparison, browser, width, scheme):
    page, complaints, requests = opened(browser, comparison[2], width, scheme)
    for index in range(page.locator("audio").count()):
        player = page.locator("audio").nth(index)
        player.evaluate("player => player.play()")
        page.wait_for_function("player => player.currentTime > 0.05", arg=player.element_handle())

    point = page.locator(".point").first
    point.focus()
    assert page.locator("#told").inner_text() == "melody, 20 steps: fad_logmel 10, no interval, 2 times real time"

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [comparison[2].as_uri()]
    page.close()


def test_the_table_fits_the_page_and_a_key_shows_all_its_columns(comparison, browser):
    page, *_ = opened(browser, comparison[2])
    headings = page.locator("#table thead").first.locator("th:visible")
    assert [text.split("\n")[0] for text in headings.all_inner_texts()] == [
        *("system", "steps ↓", "fad_logmel ↓", "times real time ↑", "passes per clip ↓")
    ]
    assert page.evaluate("(wide => wide.scrollWidth <= wide.clientWidth)(document.querySelector('#table .wide'))")
    page.locator("#all-columns").focus()
    page.keyboard.press("Space")
    assert headings.count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    page.close()


def test_everything_that_can_be_used_has_a_name(comparison, browser):
    page, *_ = opened(browser, comparison[2])
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    names = page.evaluate(
        "[...document.querySelectorAll('a, button, audio, img, input, summary, [tabindex]')].map(one => "
        "[one.outerHTML.slice(0, 80), one.ariaLabel || one.alt || one.labels?.[0]?.innerText || one.innerText || ''])"
    )
    assert len(names) > 30
    assert [html for html, name in names if not name.strip()] == []
    assert page.evaluate("[...document.querySelectorAll('button')].every(one => one.offsetHeight >= 44)")
    page.close()


def test_votes_by_keys_survive_a_reload_and_make_a_file_that_the_command_reads(comparison, browser, tmp_path):
    page, complaints, _ = opened(browser, comparison[2])
    page.locator("#test").focus()
    page.keyboard.press("1")
    assert page.locator("#test-status").inner_text() == "Listen to both first."
    for key in ("a", "b", "1"):
        page.keyboard.press(key)
    page.wait_for_function("document.getElementById('test-status').textContent.startsWith('1 vote')")
    page.reload()
    assert page.locator("#test-status").inner_text() == "1 vote(s) from before are kept."
    page.locator("#test").focus()
    for key in ("a", "b", " ", "2"):
        page.keyboard.press(key)
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "votes.json")
    votes = json.loads((tmp_path / "votes.json").read_text())["votes"]
    assert [vote["vote"] for vote in votes] == ["a", "b"]
    assert all(vote["prompt"] in PROMPTS and vote["a"].split(",")[0] != vote["b"].split(",")[0] for vote in votes)
    read = read_votes([tmp_path / "votes.json"])
    assert [(vote.first, vote.second, vote.choice) for vote in read] == [
        (vote["a"], vote["b"], choice) for vote, choice in zip(votes, (1.0, 0.0), strict=True)
    ]

    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#anew").click()
    page.reload()
    assert page.locator("#test-status").inner_text() == ""
    assert complaints == []
    page.close()


def test_votes_of_another_comparison_are_not_these(comparison):
    results = comparison[0]
    other = Results("compare", {**results.metadata, "systems": {"melody": "other weights"}}, results.rows)
    later = Results("compare", {**results.metadata, "created": "later"}, results.rows)
    assert comparison_key(later) == comparison_key(results) != comparison_key(other)


def test_the_heading_names_the_systems_alone(tmp_path):
    metadata = {"prompts": PROMPTS, "seeds": [0], "embeddings": [EMBEDDING], "command": "melody-cm compare x"}
    systems = [row("melody", 5, 20.0, 8.0), row("musiccm", 1, 12.0, 30.0)]
    for one in systems:
        one.facts["clips"] = []
    real = Row("real music, decoder of melody", {"fad_logmel": score(3.0)})
    page = write_report(Results("compare", metadata, [*systems, real]), tmp_path).read_text()
    assert "<h1>melody, musiccm side by side</h1>" in page
