"""`melody-cm compare` in a real process that is killed: the same command goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from toy_recipe import toy_recipe

from melody_cm.cli.main import main
from melody_cm.evaluation.results import Results

REPOSITORY = Path(__file__).resolve().parents[2]
PROMPTS = ["calm piano", "louder drums", "slow low strings"]
SEEDS = [0, 1]
STAGE = toy_recipe(max_steps=2)
PRESET = {
    "class_path": "slow_music.SlowMusic",
    "init_args": {
        "denoiser": "stage:toy/1_autoencoder",
    },
}
COMPARED = {
    "size": "tiny",
    "seconds": 1.0,
    "prompts": PROMPTS,
    "seeds": SEEDS,
    "embeddings": ["configs/embedding/logmel.yaml"],
    "reference": "train",
    "systems": {"slow": {"pipeline": "slow_system.yaml", "num_steps": [1, 2]}},
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder with one toy stage and a comparison of it at two numbers of steps, in which the command can run."""
    files = {
        "recipes/toy/1_autoencoder.yaml": STAGE,
        "recipes/compare/slow.yaml": COMPARED,
        "recipes/compare/slow_system.yaml": PRESET,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "training")
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("melody_cm.comparison.speed.PROBE_SIZE", 128)
    return tmp_path


def arguments(out, *more):
    return ["compare", "recipes/compare/slow.yaml", "--run", "toy", "--out", out, *more]


def killed_midway(house, out):
    """Start the comparison, kill it when it has made some clips and not all; how many it made."""
    folders = [str(REPOSITORY), *(str(REPOSITORY / "tests" / folder) for folder in ("cli", "training"))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folders),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PAUSE": "0.3",
    }
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "melody-cm"), *arguments(out)], env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 90
    while len(list((house / out).glob("audio/slow/*/*.wav"))) < len(PROMPTS) + 1:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (house / out / "results.json").exists()
    return len(list((house / out).glob("audio/slow/*/*.wav")))


def without_times(out):
    data = Results.read(out / "results.json", "compare").as_dict()
    for row in data["rows"]:
        row["facts"].pop("speed", None)  # Real music has none.
    timed = ("created", "command", "probe")
    metadata = {key: value for key, value in data["metadata"].items() if key not in timed}
    return metadata, data["rows"], data["differences"]


# Killed in this process, by an exception: comparison/test_compare_resume.py.
@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_results_of_an_undisturbed_one(house):
    assert main(arguments("undisturbed", "--train-missing")) == 0
    clips = 2 * len(PROMPTS) * len(SEEDS)
    assert 0 < killed_midway(house, "killed") < clips, "it was killed too late for this test to mean anything"
    first = house / "killed/audio/slow/1/prompt000_seed0.wav"
    made = first.stat().st_mtime_ns
    assert main(arguments("killed")) == 0
    assert first.stat().st_mtime_ns == made, "what was there was made again"
    assert without_times(house / "killed") == without_times(house / "undisturbed")
    for file in sorted((house / "undisturbed/audio").rglob("*.wav")):
        assert (house / "killed" / file.relative_to(house / "undisturbed")).read_bytes() == file.read_bytes()
    rows = Results.read(house / "killed/results.json", "compare").rows
    *made, real = rows
    assert [len(row.facts["clips"]) for row in made] == [len(PROMPTS) * len(SEEDS)] * 2
    assert {row.facts["silent_clips"] for row in made} == {0}
    assert real.label == "real music"
