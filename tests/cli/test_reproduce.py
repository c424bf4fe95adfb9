"""`melody-cm reproduce`: what is run for each table, what is written, what is refused; in full only where slow."""

import sys
from dataclasses import replace

import pytest
from two_steps import shortened

from melody_cm.cli.main import main
from melody_cm.comparison import ablation, read_compare_recipe, stage_measures
from melody_cm.comparison.reproduce import EXPERIMENTS, measure
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Results, Row
from melody_cm.runs import Interrupted, Run
from melody_cm.storage import read_json


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce melody-magic --size tiny", ["no table 'melody-magic'", "melody-speed", "musiccm-long, or all"]),
        ("reproduce melody-speed", ["--size is missing"]),
        ("reproduce melody-speed --size huge", ["unknown size 'huge'"]),
        ("reproduce melody-speed --size tiny --seeds 1", ["at least 2"]),
        ("reproduce melody-speed --size tiny --seeds a,b", ["--seeds 'a,b'"]),
        ("reproduce melody-speed --size tiny --clips 1", ["at least 2"]),
        ("reproduce melody-speed --size tiny --run ../x", ["cannot name a run"]),
    ],
)
def test_bad_input_is_refused_before_any_work(command, words, tmp_path, capsys):
    try:
        code = main([*command.split(), "--runs", str(tmp_path), "--out", str(tmp_path / "out")])
    except SystemExit as ended:  # Of the parser.
        code = ended.code
    error = capsys.readouterr().err.strip()
    assert (code, len(error.splitlines())) == (2, 1)
    for word in words:
        assert word in error
    assert not any(tmp_path.iterdir())


@pytest.fixture
def trained(monkeypatch):
    """The stages that would have been trained."""
    names = []
    monkeypatch.setattr(Run, "train", lambda self, stages: names.extend(stage.name for stage in stages))
    return names


def reproduce(name, tmp_path):
    return main(["--debug", "reproduce", name, "--size", "tiny", "--runs", str(tmp_path), "--out", str(tmp_path)])


def test_a_comparison_has_the_systems_of_the_table_and_the_prompts_of_the_size(tmp_path, trained, monkeypatch, capsys):
    seen = {}

    def compared(recipe, run, out, setting, train_missing):
        seen.update(recipe=recipe, setting=setting, run=run, missing=train_missing)
        return Results("compare", {}, [])

    monkeypatch.setattr(measure, "compare_recipe", compared)
    assert reproduce("musiccm-quality", tmp_path) == 0
    systems = {name: side.num_steps for name, side in seen["recipe"].systems.items()}
    assert systems == {"musiccm": [1, 4], "musiccm_teacher": [50]}
    assert seen["recipe"].prompts == read_compare_recipe("recipes/compare/tiny.yaml").prompts
    assert (seen["setting"].size, seen["run"].name, seen["missing"]) == ("tiny", "reproduce-tiny", True)
    metadata = read_json(tmp_path / "musiccm-quality.json")["metadata"]
    assert metadata["size"] == "tiny"
    assert {claim["verdict"] for claim in metadata["claims"]} == {"not distinguishable"}
    assert "4 steps are faster than the teacher: not distinguishable" in capsys.readouterr().out


def test_an_ablation_trains_the_recipes_of_the_table_alone(tmp_path, trained, monkeypatch):
    def measured(variant, run, steps, clips, placement):
        assert (steps, clips) == ([4], 64)
        quality = {"base": 1.0, "no_discriminator": 2.0}[variant.name] + 0.01 * variant.seed**2
        yield Row(variant.name, {"fad_logmel": Score(quality, None, None, None, "", 64, 64, False)}, 4)

    monkeypatch.setattr(ablation, "measure", measured)
    monkeypatch.setattr(ablation, "stage_weights", lambda stage: "same")
    assert reproduce("musiccm-discriminator", tmp_path) == 0
    assert sum(name.startswith("ablations/") for name in trained) == 2 * 3
    assert "musiccm/3_teacher" in trained
    page = (tmp_path / "musiccm-discriminator.md").read_text()
    assert "| **holds** |" in page
    assert "| base, 4 steps | FD pann | 27.13 | fad_logmel | 1.017 [" in page


def test_a_stopped_training_stops_the_command(tmp_path, monkeypatch):
    def interrupted(self, stages):
        raise Interrupted

    monkeypatch.setattr(Run, "train", interrupted)
    assert reproduce("all", tmp_path) == 130
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_table_runs_at_tiny_size(name, tmp_path_factory, monkeypatch):
    train = Run.train
    monkeypatch.setattr(Run, "train", lambda self, recipes, **more: train(self, shortened(list(recipes)), **more))
    monkeypatch.setattr(Run, "check", lambda self, stages: None)  # Two steps are not what the recipes say.
    monkeypatch.setattr(stage_measures, "FINE_STEPS", 40)
    recipe = read_compare_recipe("recipes/compare/tiny.yaml")
    few = replace(recipe, prompts=recipe.prompts[:2], seeds=recipe.seeds[:1])
    monkeypatch.setattr(sys.modules["melody_cm.comparison.reproduce"], "read_compare_recipe", lambda file: few)
    folder = tmp_path_factory.getbasetemp() / "reproduced"
    words = ["reproduce", name, "--size", "tiny", "--runs", str(folder), "--out", str(folder)]
    assert main([*words, "--seeds", "0,1", "--clips", "8"]) == 0
    results = Results.read(folder / f"{name}.json", "reproduce")
    assert len(results.metadata["claims"]) == len(EXPERIMENTS[name].claims)
    assert any(row.metrics for row in results.rows)
    shown = (folder / f"{name}.md").read_text()
    for figure in EXPERIMENTS[name].figures():
        missing = f"| {figure['row']} | {figure['quantity']} | {figure['value']:g} | not measured |"
        assert (missing in shown) == (figure["ours"] is None)
