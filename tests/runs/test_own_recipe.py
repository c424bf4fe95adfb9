"""A recipe of one's own that says no more than it must."""

import csv

import pytest
import yaml
from toy_recipe import toy_recipe

from melody_cm.cli.main import main


@pytest.fixture
def recipe(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "training")
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    machine = (request.config.rootpath / "configs/machines/cpu.yaml").read_text()
    files = {
        "recipes/own/1_autoencoder.yaml": yaml.safe_dump(toy_recipe(max_steps=60)),
        "configs/machines/cpu.yaml": machine,
    }
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
