"""`melody-cm ablate`: what is trained, what is shared, and what a second run reads instead of measuring it."""

import json

import pytest

from melody_cm.cli.main import main
from melody_cm.comparison import ablation
from melody_cm.configuration import shipped
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Results, Row
from melody_cm.placement import Placement
from melody_cm.runs import Run, Setting
from melody_cm.storage import write_json

CPU, HALF = (Placement.choose("cpu", precision) for precision in ("fp32", "bf16"))
TINY = Setting("tiny")


def variants(name, seeds=(0, 1), setting=TINY):
    return ablation.plan_ablation(shipped("recipes/ablations") / name, setting, list(seeds))


def test_networks_and_seeds_are_each_trained():
    planned = variants("network")
    assert [(one.name, one.seed) for one in planned] == [
        (name, seed) for name in ("dual_path", "unet1d", "unet2d") for seed in (0, 1)
    ]
    assert len({one.trained.name for one in planned}) == 6
    assert all(one.sampled.config["seed_everything"] == one.seed for one in planned)


def test_a_folder_that_ships_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = ablation.plan_ablation("recipes/ablations/network", TINY, [0])
    assert {one.name for one in found} == {"dual_path", "unet1d", "unet2d"}


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
    steps = {stage.name: stage.config["trainer"].get("max_steps") for stage in ablation.stages_in_order(short, setting)}
    assert steps.pop("melody/5_audio_vae_gan") > 3
    assert [value for name, value in steps.items() if name.startswith("ablations/")] == [3] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes/compare/nowhere"], "holds 0 recipe(s)"),
        (["recipes/ablations/network", "--baseline", "unet3d"], "the baseline unet3d is none of dual_path"),
        (["recipes/ablations/network", "--clips", "1"], "1 clips give no distance"),
        (["recipes/ablations/network", "--seeds", "a"], "--seeds 'a'"),
        (["recipes/ablations/network", "--seeds", ""], "needs at least one seed"),
        (["recipes/ablations/angle_schedule", "--steps", "5,0"], "0 steps, recipe linear: num_steps is 0"),
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

    def measure(variant, run, steps, num_clips, placement):
        calls.append((variant.name, variant.seed))
        mean = Score(1.0 + variant.seed, None, None, None, "", 8, None, False)
        yield Row(variant.name, {"velocity_mse": mean})

    monkeypatch.setattr(ablation, "measure", measure)
    monkeypatch.setattr(ablation, "stage_weights", lambda stage: WEIGHTS.get(stage, "same"))
    return calls


WEIGHTS: dict[str, str] = {}


def test_what_was_measured_on_the_same_weights_is_read(tmp_path, measured, monkeypatch):
    planned, run, out = variants("network"), Run(tmp_path / "run"), tmp_path / "out"
    rows = ablation.measure_all(planned, run, out, [], 8, CPU)
    assert [len(own) for own in rows.values()] == [3, 3]
    assert ablation.measure_all(planned, run, out, [], 8, CPU) == rows
    assert len(measured) == 6
    monkeypatch.setitem(WEIGHTS, planned[0].trained.name, "others")
    ablation.measure_all(planned, run, out, [], 8, CPU)
    assert measured[6:] == [("dual_path", 0)]
    ablation.measure_all(planned, run, out, [5], 8, CPU)
    assert len(measured) == 7 + 6
    ablation.measure_all(planned, run, out, [5], 8, HALF)
    assert len(measured) == 7 + 12, "in another precision the same weights are others"


def test_the_table_is_written_three_times_and_as_a_page(tmp_path, measured, monkeypatch, capsys):
    monkeypatch.setattr(Run, "train", lambda self, recipes: None)
    monkeypatch.chdir(tmp_path)
    out, folder = tmp_path / "out", str(shipped("recipes/ablations/network"))
    assert main(["ablate", folder, "--size", "tiny", "--seeds", "0,1,2", "--out", str(out)]) == 0
    results = Results.read(out / "results.json", "ablate")
    assert [(row.label, row.metrics["velocity_mse"].value) for row in results.rows] == [
        (name, 2.0) for name in ("dual_path", "unet1d", "unet2d")
    ]
    assert [row.metrics["velocity_mse"].details["std"] for row in results.rows] == [1.0] * 3
    assert results.metadata["baseline"] == "dual_path"
    assert "unet1d" in (out / "table.md").read_text()
    assert "unet2d" in (out / "table.csv").read_text()
    assert "Ablation: network" in (out / "report.html").read_text()
    assert f"Report: {out}/report.html" in capsys.readouterr().out


def test_a_spoilt_cell_is_measured_again(tmp_path, measured):
    planned = variants("network", [0])
    write_json(tmp_path / "out/cells/dual_path_seed0.json", {"made_from": "something else", "rows": []})
    assert len(ablation.measure_all(planned, Run(tmp_path / "run"), tmp_path / "out", [], 8, CPU)[0]) == 3


@pytest.mark.slow
def test_two_networks_are_trained_measured_and_tabled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(shipped("recipes/ablations/network"))
    command = ["ablate", folder, "--size", "tiny", "--seeds", "0", "--clips", "2", "--steps", "2", "--out", "out"]
    assert main([*command, "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]) == 0
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert {key for row in rows for key in row["metrics"]} >= {
        "velocity_mse",
        "si_snri",
        "fad_logmel",
        "sampling_error",
    }
    assert {row["label"] for row in rows} == {"dual_path", "unet1d", "unet2d"}
