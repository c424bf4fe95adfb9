"""What the tests of comparisons share."""

import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick_speeds():
    """Toys need no large probe; and collecting the garbage of a whole test session takes a second each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("melody_cm.comparison.speed.PROBE_SIZE", 128)
        patch.setattr("melody_cm.comparison.costs.gc", SimpleNamespace(collect=lambda: None))
        yield


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
