"""What the tests of comparisons share."""

import shutil
from types import SimpleNamespace

import pytest

from melody_cm.comparison.ceilings import MUSIC
from melody_cm.evaluation.music import level_dbfs


@pytest.fixture(scope="session", autouse=True)
def _quick_speeds():
    """Toys need no large probe and have no pitch; and collecting garbage of a whole test session takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("melody_cm.comparison.speed.PROBE_SIZE", 128)
        patch.setattr("melody_cm.comparison.clips.music_measures", _only_level)
        patch.setattr("melody_cm.comparison.costs.gc", SimpleNamespace(collect=lambda: None))
        yield


def _only_level(waveform, sample_rate):
    return dict.fromkeys(MUSIC, level_dbfs(waveform))


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install melody_cm[browser]")
    if chromium is None:
        pytest.skip("no Chromium on this machine to open the report in")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()
