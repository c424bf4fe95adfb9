"""`melody-cm doctor` never fails on a broken installation; it describes it."""

from importlib.metadata import version

import pytest

from melody_cm.cli.main import main
from melody_cm.comparison.doctor import usable


def test_doctor_prints_versions_devices_extras_and_caches(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "torch",
        version("torch"),
        "accelerators",
        "judge musicnn",
        "extra demo",
        "extra encodec",
        "extra fad",
        "fluidsynth",
        "hub cache",
        "MELODY_CM_CACHE",
    ):
        assert word in printed


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_an_extra_that_breaks_on_import_is_described(tmp_path, monkeypatch, error):
    (tmp_path / "broken_extra.py").write_text(f"raise {error.__name__}('libc10_cuda.so:\\n not found')")
    monkeypatch.syspath_prepend(tmp_path)
    assert usable("broken_extra") == f"installed but not usable: {error.__name__}: libc10_cuda.so: not found"


def test_missing_and_present_modules():
    assert usable("json") == "usable"
    assert usable("no_such_module").startswith("not installed")
