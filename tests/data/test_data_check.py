import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from melody_cm.cli.data import add_arguments
from melody_cm.cli.data import run as run_data
from melody_cm.data import SyntheticCorpus, check_corpus


def run(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run_data(parser.parse_args(arguments))


def sound(path, seconds=1.0, rate=8000):
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(round(rate * seconds)), rate, subtype="FLOAT")


@pytest.fixture
def messy(tmp_path):
    """A manifest with one of every problem; row 1 and row 9 are good."""
    for name in ("good", "other", "twin", "leak"):
        sound(tmp_path / f"{name}.wav")
    sound(tmp_path / "short.wav", 0.5)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("hello")
    names = ["good", "silent", "nan", "text", "absent", "short", "twin", "leak", "other"]
    rows = [
        {"id": name, "audio": f"{name}.wav", "duration": 1.0, "caption": "x", "license": "CC0-1.0"} for name in names
    ]
    rows[6]["id"] = "good"
    rows[7] |= {"piece": "p", "split": "test"}
    rows[8] |= {"piece": "p", "split": "train"}
    lines = [*map(json.dumps, rows), "{", json.dumps({"id": "n", "audio": None, "caption": "x"})]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_every_problem_is_listed_with_file_and_row(messy):
    report = check_corpus(str(messy))
    expected = {
        2: "silent", 3: "NaN", 4: "not a readable", 5: "no such file", 6: "too short, 0.50 s of 1 s",
        7: "id 'good' is that of", 9: "piece 'p' is in train here and in test", 10: "not JSON",
    }  # fmt: skip
    assert len(report.problems) == len(expected)
    for number, words in expected.items():
        assert any(f"manifest.jsonl, row {number}: " in line and words in line for line in report.problems), number
    assert report.clips == {"train": 3, "test": 1}
    assert report.seconds == {"train": 3.0, "test": 1.0}
    assert report.sample_rates == {8000: 4}
    assert report.licenses == {"CC0-1.0": 4}
    assert (report.without_audio, report.without_caption) == (1, 0)
    assert report.reasons == {
        "silent": 1, "not finite": 1, "unreadable": 1, "missing": 1, "too short": 1, "id twice": 1,
        "piece in two splits": 1, "bad row": 1,
    }  # fmt: skip


def test_exit_codes(messy, tmp_path_factory, capsys):
    assert run("check", str(messy)) == 0
    printed = capsys.readouterr().out
    assert "row 4: " in printed
    assert "problems: 8" in printed
    assert run("check", str(messy), "--strict") == 2
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run("check", str(messy / "nowhere"))
    empty = tmp_path_factory.mktemp("empty")
    assert run("check", str(empty)) == 2
    sound(empty / "a.wav", 2.0, rate=16000)
    assert run("check", str(empty), "--strict") == 0
    printed = capsys.readouterr().out
    assert "16000 Hz (1)" in printed
    assert "clips without a caption: 1" in printed
    (empty / "a.json").write_text("[]")
    assert run("check", str(empty), "--strict") == 2


def test_a_corpus_that_knows_no_rows_is_checked_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path))
    report = check_corpus(SyntheticCorpus(4, 0.5, sample_rate=8000))
    assert sum(report.clips.values()) == 4
    assert sum(report.seconds.values()) == 2.0
    assert (report.problems, report.reasons) == ([], {})


def test_the_parser_is_light():
    code = "import sys, melody_cm.cli.data; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_recordings_are_clean(shared_data, capsys):
    assert run("check", str(shared_data / "realrec" / "manifest.jsonl"), "--strict") == 0
    assert "problems: 0" in capsys.readouterr().out
