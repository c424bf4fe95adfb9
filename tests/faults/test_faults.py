"""The form of `make faults` that takes a minute: some kills of one stage, and hostile inputs of every kind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sandbox


@pytest.mark.parametrize("part", ["hostile", pytest.param("kills", marks=pytest.mark.slow)])
def test_what_is_done_on_purpose_does_no_harm(tiny_run, part):
    words = [sys.executable, str(Path(__file__).with_name("main.py")), part, "--short", "--trained", str(tiny_run)]
    environment = {**os.environ, "MELODY_CM_CACHE": str(tiny_run.parents[1] / "cache")}
    environment.pop("MELODY_CM_RUN", None)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_the_memory_of_a_call_is_measured_and_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "MEMORY", 512 * 2**20)
    small = sandbox.run_apart(lambda: None, tmp_path)
    large = sandbox.run_apart(lambda: np.ones(256 * 2**17), tmp_path)
    assert (small.kind, large.kind) == ("harmless", "harmless")
    assert large.megabytes - small.megabytes == pytest.approx(256, abs=16)
    assert sandbox.run_apart(lambda: np.ones(600 * 2**17), tmp_path).kind == "memory"
