"""A recipe of one's own that says no more than it must."""

import csv

import pytest
import yaml
from toy_recipe import toy_recipe

import melody_cm
from melody_cm.cli.main import main


@pytest.fixture
def recipe(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "training")
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "own/1_autoencoder.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(toy_recipe(max_steps=60)))
    return path


def rows(tmp_path, logs="logs"):
    with (tmp_path / f"runs/own/own/1_autoencoder/{logs}/version_0/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_validation_and_logging_need_not_be_said(recipe, tmp_path, capsys):
    assert main(["train", str(recipe), "--size", "paper", "--run", "own"]) == 0
    assert ": runs code from outside melody_cm: toys.SquaredError, toys.ToyAutoencoder\n" in capsys.readouterr().out
    assert any(row["train/loss"] for row in rows(tmp_path))
    assert [row["step"] for row in rows(tmp_path) if row["val/loss"]] == ["59"]


def test_a_logger_of_ones_own_writes_beside_ours_and_false_means_none(recipe, tmp_path):
    own = ["--trainer.logger.class_path", "lightning.pytorch.loggers.CSVLogger", "--trainer.max_steps", "4"]
    words = [*own, "--trainer.log_every_n_steps", "1", "--trainer.logger.save_dir", str(tmp_path / "mine")]
    assert main(["train", str(recipe), "--size", "paper", "--run", "own", *words]) == 0
    assert rows(tmp_path)
    assert list((tmp_path / "mine").rglob("metrics.csv"))
    silent = ["--trainer.logger", "false", "--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false"]
    assert main(["train", str(recipe), "--size", "paper", "--run", "silent", *silent]) == 0
    assert not list((tmp_path / "runs/silent").rglob("metrics.csv"))
    assert (tmp_path / "runs/silent/own/1_autoencoder/finished.json").is_file()


def test_python_trains_as_the_command_line_does(recipe, tmp_path):
    run = melody_cm.train(recipe, tmp_path / "runs/python", size="paper", overrides=["--trainer.max_steps=2"])
    assert run.finished("own/1_autoencoder")["outcome"]["steps"] == 2
    assert run.folder("own/1_autoencoder") == tmp_path / "runs/python/own/1_autoencoder"
