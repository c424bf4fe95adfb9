"""The page of `melody-cm demo`: what it opens, what it makes, and which votes it keeps; the page itself in Chromium."""

import json
from datetime import datetime
from pathlib import Path

import pytest
import soundfile
import torch
from long_toys import tiny_melody
from toy_systems import toy_melody, toy_musiccm

from melody_cm.cli.main import main
from melody_cm.comparison.demo import listening, page
from melody_cm.comparison.demo.listening import Pair, Votes, draw_pair
from melody_cm.pipelines.files import read_prompt
from melody_cm.placement import Placement

CPU = Placement.choose("cpu")


@pytest.fixture
def systems():
    return {"melody": tiny_melody(num_steps=3), "musiccm": toy_musiccm()}


@pytest.fixture
def song(tmp_path):
    soundfile.write(tmp_path / "song.wav", torch.randn(1600).clamp(-1, 1).numpy() * 0.3, 1600)
    return str(tmp_path / "song.wav")


def test_systems_go_by_the_last_word_of_their_source(tmp_path):
    for folder in ("one/melody", "two/melody", "musiccm"):
        (toy_musiccm() if folder == "musiccm" else toy_melody()).save_pretrained(tmp_path / folder)
    sources = [str(tmp_path / folder) for folder in ("one/melody", "two/melody", "musiccm")]
    assert list(page.open_systems(sources, CPU)) == [sources[0], sources[1], "musiccm"]
    with pytest.raises(ValueError, match="named twice"):
        page.open_systems(sources[:1] * 2, CPU)
    with pytest.raises(FileNotFoundError, match="no folder"):
        page.open_systems(["nowhere"], CPU)


def test_a_pair_is_two_systems_by_chance_equally_loud(systems):
    pairs = [draw_pair(systems, "a calm piano", 0.5) for _ in range(20)]
    assert {(pair.a, pair.b) for pair, _ in pairs} == {
        ("melody, 3 steps", "musiccm, 4 steps"),
        ("musiccm, 4 steps", "melody, 3 steps"),
    }
    for pair, clips in pairs[:3]:
        assert pair.prompt == "a calm piano"
        for clip in clips:
            level = clip.waveform.square().mean().sqrt()
            assert level == pytest.approx(0.07, rel=1e-3) or clip.waveform.abs().max() == pytest.approx(0.98, rel=1e-3)
    with pytest.raises(ValueError, match="needs two systems"):
        draw_pair({"melody": systems["melody"]}, "a", 0.5)


def test_votes_are_kept_as_a_report_saves_them(tmp_path, systems):
    votes, pair = Votes(tmp_path / "votes", systems), Pair("a", "melody, 3 steps", "musiccm, 4 steps")
    assert [votes.add("0123456789", pair, choice) for choice in ("a", "none")] == [1, 2]
    assert votes.add("another one", pair, "b") == 1
    content = json.loads((tmp_path / "votes/votes_01234567.json").read_text())
    assert set(content) == {"schema_version", "comparison", "report", "session", "votes"}
    assert (content["schema_version"], content["session"]) == (1, "0123456789")
    for vote, choice in zip(content["votes"], ("a", "none"), strict=True):
        time = vote.pop("time")
        assert datetime.fromisoformat(time.replace("Z", "+00:00")).utcoffset() is not None
        assert vote == {"prompt": "a", "a": "melody, 3 steps", "b": "musiccm, 4 steps", "vote": choice}
    assert Votes(tmp_path, {"melody": systems["melody"]}).comparison != content["comparison"]
    with pytest.raises(ValueError, match="a vote of 'c'"):
        votes.add("x", pair, "c")


def test_given_music_goes_on_or_gets_a_new_part(systems, song):
    given = read_prompt(Path(song), 800).waveform[0, 0]
    more = page.edited(systems, song, "melody", page.CONTINUE, 0.0, 0.0, "drums", 1.5, 0, 2).waveform[0, 0]
    assert len(more) == 1200
    torch.testing.assert_close(more[:700], given[:700])
    new = page.edited(systems, song, "melody", page.INPAINT, 0.4, 0.6, "", 0.0, 0, 2).waveform[0, 0]
    torch.testing.assert_close(new[:250], given[:250])
    assert not torch.allclose(new[320:480], given[320:480], atol=1e-2)
    with pytest.raises(ValueError, match="there is no music"):
        page.edited(systems, None, "melody", page.INPAINT, 0.4, 0.6, "", 0.0, 0, 2)


def test_each_system_answers_for_itself_also_whole_seconds(systems):
    gradio, told = pytest.importorskip("gradio"), []
    bar = lambda step, desc: told.append((step, desc))  # noqa: E731
    answers = {name: page._maker(gradio, name, system) for name, system in systems.items()}
    (rate, samples), said = answers["musiccm"]("calm", 1, 0, 0, ["musiccm"], False, bar)
    assert (rate, len(samples)) == (800, 800)
    assert said.startswith("1.0 s of music in")
    assert told[-1] == ((4, 4), "musiccm")
    assert answers["melody"]("calm", 1, 0, 0, ["musiccm"], False, bar) == (None, "")
    assert "MeLoDy takes no" in answers["melody"]("calm", 1, 0, 0, ["melody"], True, bar)[1]


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["demo", "nowhere"]) == 2
    assert "pip install 'melody_cm[demo]'" in capsys.readouterr().err


@pytest.fixture
def opened(browser, systems, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="no gradio; pip install melody_cm[demo]")
    made = page._sound
    monkeypatch.setattr(page, "_sound", lambda audio: (8000, made(audio)[1]))  # Chromium plays nothing of 800 Hz.
    blocks = page.build_page(systems, tmp_path / "votes")
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, footer_links=[])
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    tab.set_default_timeout(90_000)
    tab.goto(address)
    yield tab
    tab.close()
    blocks.close()


@pytest.mark.slow
def test_visitors_make_music_go_on_from_theirs_and_vote(opened, song, tmp_path, monkeypatch):
    monkeypatch.setattr(listening.random, "sample", lambda names, count: list(names)[:count])
    opened.get_by_role("button", name="Make music").first.click()
    opened.get_by_text("s of music in").nth(1).wait_for()
    assert opened.get_by_text("s of music in").count() == 2
    opened.get_by_label("A loop (MusicCM)").check()
    opened.get_by_role("button", name="Make music").first.click()
    opened.get_by_text("MeLoDy takes no prompt_at, loop or windows").wait_for()

    opened.get_by_role("tab", name="Given music").click()
    opened.locator("input[type=file]").first.set_input_files(song)
    opened.get_by_text("song.wav").first.wait_for()
    opened.get_by_role("button", name="Make music").last.click()
    opened.locator(".block", has_text="Result").last.get_by_label("Download").wait_for()

    opened.get_by_role("tab", name="Listening test").click()
    opened.get_by_role("button", name="A is better").click()
    opened.get_by_text("Ask for a pair first.").wait_for()
    opened.get_by_role("button", name="Next pair").click()
    plays = opened.get_by_role("tabpanel").last.get_by_label("Play", exact=True)
    plays.nth(1).wait_for()
    opened.get_by_role("button", name="A is better").click()
    opened.get_by_text("Listen to both first.").wait_for()
    for place in range(2):
        plays.nth(place).click()
        opened.wait_for_timeout(1500)
    opened.get_by_role("button", name="A is better").click()
    opened.get_by_text("1 vote(s) kept").wait_for()
    (file,) = (tmp_path / "votes").glob("votes_*.json")
    (vote,) = json.loads(file.read_text())["votes"]
    assert (vote["a"], vote["b"], vote["vote"]) == ("melody, 3 steps", "musiccm, 4 steps", "a")
