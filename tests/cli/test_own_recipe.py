"""A recipe of one's own that says no more than it must."""

import csv

import pytest
import yaml

from melody_cm.cli.main import main

MODEL = {
    "class_path": "melody_cm.training.AutoencoderTraining",
    "init_args": {
        "autoencoder": {"class_path": "toys.ToyAutoencoder"},
        "reconstruction_loss": {"class_path": "toys.SquaredError"},
        "optimization": {"learning_rate": 0.01},
    },
}
CORPUS = {
    "class_path": "melody_cm.data.SyntheticCorpus",
    "init_args": {"num_clips": 24, "seconds": 1.0, "sample_rate": 8000},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "training")
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    machine = (request.config.rootpath / "configs/machines/cpu.yaml").read_text()
    data = {"corpus": CORPUS, "sample_rate": 8000, "seconds": 0.512, "batch_size": 4}
    own = {"seed_everything": 0, "model": MODEL, "data": data, "trainer": {"max_steps": 60}}
    files = {"recipes/own/1_autoencoder.yaml": yaml.safe_dump(own), "configs/machines/cpu.yaml": machine}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    return tmp_path / "recipes/own/1_autoencoder.yaml"


def test_validation_and_logging_need_not_be_said(recipe, tmp_path):
    assert main(["train", str(recipe), "--size", "paper", "--run", "own"]) == 0
    with (tmp_path / "runs/own/own/1_autoencoder/logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(row["train/loss"] for row in rows)
    assert [row["step"] for row in rows if row["val/loss"]] == ["59"]
