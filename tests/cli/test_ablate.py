"""`melody-cm ablate`: what is trained, what is shared, and what a second run reads instead of measuring it."""

import json
from pathlib import Path

import pytest

from melody_cm.benchmark.ablation import Cell
from melody_cm.cli import ablate
from melody_cm.cli.main import main
from melody_cm.cli.plan import Setting
from melody_cm.cli.recipe import leaves
from melody_cm.storage import write_json

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY = Setting("tiny")


def variants(name, seeds=(0, 1), setting=TINY):
    return ablate.plan_variants(RECIPES / "ablations" / name, list(seeds), setting)


def test_networks_and_seeds_are_each_trained():
    planned = variants("network")
    assert [(one.name, one.seed) for one in planned] == [
        (name, seed) for name in ("dual_path", "unet1d", "unet2d") for seed in (0, 1)
    ]
    assert len({one.trained.name for one in planned}) == 6
    assert all(one.sampled.config["seed_everything"] == one.seed for one in planned)


def test_schedules_share_one_training_a_seed_and_that_of_the_network_ablation():
    schedules = {(one.name, one.seed): one for one in variants("angle_schedule")}
    for seed in (0, 1):
        linear, uniform = schedules["linear", seed], schedules["uniform", seed]
        assert linear.trained is uniform.trained
        assert linear.sampled.config != uniform.sampled.config
    dual_path = {one.seed: one.trained.name for one in variants("network") if one.name == "dual_path"}
    assert {seed: schedules["linear", seed].trained.name for seed in (0, 1)} == dual_path


def test_overrides_change_what_is_trained_but_not_what_it_needs():
    setting = Setting("tiny", overrides=["--trainer.max_steps", "3"])
    plain, short = variants("network", [0]), variants("network", [0], setting)
    assert not {one.trained.name for one in plain} & {one.trained.name for one in short}
    steps = {stage.name: stage.config["trainer"].get("max_steps") for stage in ablate.stages_in_order(short, setting)}
    assert steps.pop("melody/5_audio_vae_gan") > 3
    assert [value for name, value in steps.items() if name.startswith("ablations/")] == [3] * 3


@pytest.mark.parametrize("name", ["linear", "uniform"])
def test_an_angle_schedule_differs_from_its_base_in_nothing_else(name):
    for size in ("tiny", "cpu", "small", "paper"):
        base = dict(leaves(Setting(size).compose(RECIPES / "melody/6_dual_path_diffusion.yaml").config))
        recipe = dict(leaves(Setting(size).compose(RECIPES / f"ablations/angle_schedule/{name}.yaml").config))
        unlike = {keys[:3] for keys in base.keys() | recipe.keys() if base.get(keys) != recipe.get(keys)}
        assert unlike == (set() if name == "linear" else {("model", "init_args", "schedule")})


@pytest.mark.parametrize("text", ["0,x", "1,1", "-1,2", "0.5"])
def test_seeds_are_different_whole_numbers(text):
    with pytest.raises(ValueError, match="--seeds"):
        ablate.numbers("--seeds", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes/compare/nowhere"], "holds 0 recipe(s)"),
        (["recipes/ablations/network", "--baseline", "unet3d"], "--baseline unet3d is none of dual_path"),
        (["recipes/ablations/network", "--clips", "1"], "--clips 1"),
        (["recipes/ablations/network", "--seeds", "a"], "--seeds 'a'"),
        (["recipes/ablations/network", "--seeds", ""], "--seeds '' names none"),
        (["recipes/ablations/angle_schedule", "--steps", "5,0"], "--steps 0, recipe linear: num_steps is 0"),
        (["recipes/ablations/distillation", "--steps", "1,11"], "at most 10: ask for fewer steps"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(tmp_path, capsys, arguments, message):
    command = ["ablate", *arguments, "--size", "tiny", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def measured(monkeypatch):
    """Measures of 1 and the seed, and how often each variant was measured."""
    calls = []

    def measure(variant, run, steps, num_clips):
        calls.append((variant.name, variant.seed))
        yield Cell(variant.name, variant.seed, None, {"velocity_mse": 1.0 + variant.seed})

    monkeypatch.setattr(ablate, "measure", measure)
    monkeypatch.setattr("melody_cm.cli.finished.stage_weights", lambda stage: WEIGHTS.get(stage, "same"))
    return calls


WEIGHTS: dict[str, str] = {}


def test_what_was_measured_on_the_same_weights_is_read(tmp_path, measured, monkeypatch):
    planned = variants("network")
    cells = ablate.measure_all(planned, tmp_path, tmp_path / "out", [], 8)
    assert len(measured) == len(cells) == 6
    assert ablate.measure_all(planned, tmp_path, tmp_path / "out", [], 8) == cells
    assert len(measured) == 6
    monkeypatch.setitem(WEIGHTS, planned[0].trained.name, "others")
    ablate.measure_all(planned, tmp_path, tmp_path / "out", [], 8)
    assert measured[6:] == [("dual_path", 0)]
    ablate.measure_all(planned, tmp_path, tmp_path / "out", [5], 8)
    assert len(measured) == 7 + 6


def test_the_table_is_written_three_times_and_as_a_page(tmp_path, measured, monkeypatch, capsys):
    monkeypatch.setattr("melody_cm.cli.run.train_all", lambda recipes, run: 0)
    monkeypatch.chdir(RECIPES.parent)
    out = tmp_path / "out"
    command = ["ablate", "recipes/ablations/network", "--size", "tiny", "--seeds", "0,1,2", "--runs", str(tmp_path)]
    assert main([*command, "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [(row["recipe"], row["mean"], row["std"]) for row in results["rows"]] == [
        (name, 2.0, 1.0) for name in ("dual_path", "unet1d", "unet2d")
    ]
    assert results["metadata"]["baseline"] == "dual_path"
    assert "unet1d" in (out / "table.md").read_text()
    assert "unet2d" in (out / "table.csv").read_text()
    report = (out / "report.html").read_text()
    assert "Ablation: network" in report
    assert "melody-cm" in report
    assert f"Report: {out}/report.html" in capsys.readouterr().out


def test_a_spoilt_cell_is_measured_again(tmp_path, measured):
    planned = variants("network", [0])
    write_json(tmp_path / "out/cells/dual_path_seed0.json", {"made_from": "something else", "cells": []})
    assert len(ablate.measure_all(planned, tmp_path, tmp_path / "out", [], 8)) == 3


@pytest.mark.slow
def test_two_networks_are_trained_measured_and_tabled(tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPES.parent)
    command = ["ablate", "recipes/ablations/network", "--size", "tiny", "--seeds", "0", "--clips", "2", "--steps", "2"]
    paths = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main([*command, *paths, "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]) == 0
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert {row["metric"] for row in rows} >= {"velocity_mse", "si_snri", "fad_logmel", "sampling_error"}
    assert {row["recipe"] for row in rows} == {"dual_path", "unet1d", "unet2d"}
