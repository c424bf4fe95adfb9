"""The shipped comparison on a run in which every stage was trained for two steps."""

import pytest

import melody_cm
from melody_cm.evaluation.results import Results


@pytest.mark.slow
def test_all_systems_of_the_shipped_recipe_are_compared(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tiny_run.parents[1] / "cache"))
    monkeypatch.setattr(melody_cm.Run, "check", lambda self, stages: None)  # Two steps are not what the recipes say.
    recipe = melody_cm.read_compare_recipe("recipes/compare/tiny.yaml")
    recipe.prompts, recipe.seeds = recipe.prompts[:2], [0]
    for system in recipe.systems.values():
        system.num_steps = [1]
    results = melody_cm.compare(recipe, melody_cm.Run(tiny_run), tmp_path)
    made = [row for row in results.rows if row.num_steps]
    assert [row.label for row in made] == ["melody", "melody_cm", "musiccm", "musiclm"]
    measures = {f"{kind}_{name}" for kind in ("fad", "kad") for name in ("musicnn", "logmel", "logmel_level", "joint")}
    assert all(set(row.metrics) >= measures for row in made)
    passes = [row.facts["passes"] for row in made]
    assert all(one["total"]["batched"] == one["closed_form"] for one in passes)
    assert Results.read(tmp_path / "results.json", "compare").rows == results.rows
