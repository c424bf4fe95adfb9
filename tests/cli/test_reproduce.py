"""`melody-cm reproduce`: what is run for each table, what is written, what is refused; in full only where slow."""

import json
import math
from pathlib import Path

import pytest

from melody_cm.benchmark.ablation import Cell
from melody_cm.benchmark.reproduce import EXPERIMENTS
from melody_cm.cli import ablate, compare, run
from melody_cm.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce melody-magic --size tiny", ["no table 'melody-magic'", "melody-speed", "musiccm-long, or all"]),
        ("reproduce melody-speed", ["--size must be said"]),
        ("reproduce melody-speed --size huge", ["huge.yaml", "recipes/compare"]),
        ("reproduce melody-speed --size tiny --seeds 1", ["at least 2"]),
        ("reproduce melody-speed --size tiny --seeds a,b", ["--seeds 'a,b'"]),
        ("reproduce melody-speed --size tiny --clips 1", ["at least 2"]),
        ("reproduce melody-speed --size tiny --run ../x", ["cannot name a run"]),
    ],
)
def test_bad_input_is_refused_before_any_work(command, words, tmp_path, capsys):
    assert main([*command.split(), "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    for word in words:
        assert word in error
    assert not any(tmp_path.iterdir())


@pytest.fixture
def trained(monkeypatch):
    """The stages that would have been trained."""
    names = []
    monkeypatch.setattr(run, "train_all", lambda stages, folder: names.extend(stage.name for stage in stages) or 0)
    return names


def reproduce(name, tmp_path):
    code = main(["--debug", "reproduce", name, "--size", "tiny", "--runs", str(tmp_path), "--out", str(tmp_path)])
    return code


def test_a_comparison_has_the_systems_of_the_table_and_the_prompts_of_the_size(tmp_path, trained, monkeypatch, capsys):
    seen = {}

    def compared(recipe, setting, folder, out):
        seen.update(recipe=recipe, size=setting.size, folder=folder, out=out)
        return {"rows": [], "comparisons": []}

    monkeypatch.setattr(compare, "compare_run", compared)
    assert reproduce("musiccm-quality", tmp_path) == 0
    systems = {name: system["num_steps"] for name, system in seen["recipe"]["systems"].items()}
    assert systems == {"musiccm": [1, 4], "musiccm_teacher": [50]}
    assert seen["recipe"]["prompts"] == compare.read_compare_recipe(Path("recipes/compare/tiny.yaml"))["prompts"]
    assert (seen["size"], seen["folder"].name) == ("tiny", "reproduce-tiny")
    assert {"musiccm/3_teacher", "musiccm/4_consistency_distillation"} <= set(trained)
    results = json.loads((tmp_path / "musiccm-quality.json").read_text())
    assert results["measured"]["metadata"]["size"] == "tiny"
    assert {claim["verdict"] for claim in results["claims"]} == {"not distinguishable"}
    assert "4 steps are faster than the teacher: not distinguishable" in capsys.readouterr().out


def test_an_ablation_trains_the_recipes_of_the_table_alone(tmp_path, trained, monkeypatch):
    def measured(variants, folder, out, steps, clips):
        assert (steps, clips) == ([4], 64)
        quality = {"base": 1.0, "no_discriminator": 2.0}
        return [
            Cell(variant.name, variant.seed, 4, {"fad_logmel": quality[variant.name] + 0.01 * variant.seed**2})
            for variant in variants
        ]

    monkeypatch.setattr(ablate, "measure_all", measured)
    assert reproduce("musiccm-discriminator", tmp_path) == 0
    assert sum(name.startswith("ablations/") for name in trained) == 2 * 3
    assert "musiccm/3_teacher" in trained
    page = (tmp_path / "musiccm-discriminator.md").read_text()
    assert "| **holds** |" in page
    assert "| base, 4 steps | FD pann | 27.13 | fad_logmel | 1.017 [" in page


def test_a_stopped_training_stops_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "train_all", lambda stages, folder: run.INTERRUPTED)
    assert reproduce("all", tmp_path) == run.INTERRUPTED
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_table_runs_at_tiny_size(name, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "reproduced"
    assert main(["reproduce", name, "--size", "tiny", "--runs", str(folder), "--out", str(folder)]) == 0
    results = json.loads((folder / f"{name}.json").read_text())
    assert len(results["claims"]) == len(EXPERIMENTS[name].claims)
    assert results["measured"]["numbers"]
    assert not any(math.isinf(number["value"] or 0) for number in results["measured"]["numbers"])
    shown = (folder / f"{name}.md").read_text()
    assert all(figure.ours is None or "not measured" not in shown for figure in EXPERIMENTS[name].published)
