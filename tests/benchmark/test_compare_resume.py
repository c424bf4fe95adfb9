"""A comparison that is broken off goes on; nothing that is there already is made or judged again."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from toy_systems import SAMPLE_RATE, ToyEmbedding, toy_melody, toy_musiccm

from melody_cm.benchmark import System, compare
from melody_cm.benchmark.changes import change_table, read_older
from melody_cm.benchmark.paired import compare_rows
from melody_cm.benchmark.row import Row

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/results.schema.json").read_text())
PROMPTS = ["calm piano", "loud drums", "slow strings"]


class Killed(BaseException):
    """Stands for a process that ends without warning."""


def run(out, seconds=0.5, **changes):
    generator = torch.Generator().manual_seed(0)
    reference = [(torch.randn(2, 1, SAMPLE_RATE, generator=generator) * 0.1, SAMPLE_RATE) for _ in range(3)]
    systems = {"melody": System(toy_melody(), [1, 2]), "musiccm": System(toy_musiccm(), [1])}
    arguments = {"batch_size": 2, "repetitions": 1, **changes}
    return compare(systems, PROMPTS, [0, 1], seconds, reference, [ToyEmbedding()], out, **arguments)


def without_times(results):
    metadata = {key: value for key, value in results["metadata"].items() if key not in ("created", "probe")}
    rows = [{key: value for key, value in row.items() if key != "speed"} for row in results["rows"]]
    return metadata, rows, results["comparisons"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return run(out), out


@pytest.mark.parametrize("calls", [0, 1, 4, 7])
def test_a_comparison_that_was_killed_ends_like_an_undisturbed_one(tmp_path, monkeypatch, undisturbed, calls):
    generate, left = type(toy_melody()).generate, [calls]

    def dying(self, *arguments, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return generate(self, *arguments, **options)

    with monkeypatch.context() as patch:
        for kind in (type(toy_melody()), type(toy_musiccm())):
            patch.setattr(kind, "generate", dying)
        with pytest.raises(Killed):
            run(tmp_path)
    assert not (tmp_path / "results.json").exists()
    assert without_times(run(tmp_path)) == without_times(undisturbed[0])


def test_a_clip_that_was_lost_comes_back_as_it_was(undisturbed):
    results, out = undisturbed
    clip = out / results["rows"][0]["clips"][3]["file"]
    content = clip.read_bytes()
    clip.unlink()
    run(out)
    assert clip.read_bytes() == content


def test_nothing_is_made_judged_or_timed_twice(monkeypatch, undisturbed):
    def never(self, *arguments, **options):
        raise AssertionError("made again")

    monkeypatch.setattr(Row, "_judged", never)
    for kind in (type(toy_melody()), type(toy_musiccm())):
        monkeypatch.setattr(kind, "generate", never)
    again = run(undisturbed[1])
    assert without_times(again) == without_times(undisturbed[0])
    assert [row["speed"] for row in again["rows"]] == [row["speed"] for row in undisturbed[0]["rows"]]


@pytest.mark.parametrize("change", [{"seconds": 0.25}, {"batch_size": 3}])
def test_another_request_or_other_weights_are_made_anew(tmp_path, change):
    run(tmp_path)
    older = (tmp_path / "audio/melody/1/prompt000_seed0.wav").stat().st_mtime_ns
    run(tmp_path, **change)
    assert (tmp_path / "audio/melody/1/prompt000_seed0.wav").stat().st_mtime_ns > older


def test_results_follow_the_published_schema(undisturbed):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    results = json.loads((undisturbed[1] / "results.json").read_text())
    jsonschema.validate(results, SCHEMA)
    del results["rows"][0]["metrics"]["fad_toy"]["n_generated"]
    with pytest.raises(jsonschema.ValidationError, match="n_generated"):
        jsonschema.validate(results, SCHEMA)


def test_report_and_tables_lie_beside_the_results(undisturbed):
    for name in ("report.html", "table.md", "table.csv"):
        assert "melody" in (undisturbed[1] / name).read_text()


def row(system, **by_prompt):
    return {"system": system, "num_steps": 1, "by_prompt": by_prompt}


def test_pairs_are_judged_prompt_by_prompt_and_in_the_metrics_direction():
    near, far = [1.0, 2.0, 3.0, 4.0, 5.0], [2.1, 3.0, 4.2, 5.0, 6.1]
    (pair,) = compare_rows([row("a", song_distance_x=near), row("b", song_distance_x=far)])
    assert (pair["first"], pair["second"], pair["verdict"]) == ("a, 1 steps", "b, 1 steps", "better")
    assert pair["difference"] == pytest.approx(-1.08)
    assert pair["low"] < pair["difference"] < pair["high"] < 0
    (pair,) = compare_rows([row("a", text_similarity_x=near), row("b", text_similarity_x=far)])
    assert pair["verdict"] == "worse"
    (pair,) = compare_rows([row("a", text_similarity_x=[1.0, None, 3.0]), row("b", text_similarity_x=[2.0, 9.0, 2.0])])
    assert (pair["n"], pair["verdict"]) == (2, "not distinguishable")


def test_changes_are_told_and_unlike_measures_refused(tmp_path, undisturbed):
    results, out = undisturbed
    older = read_older(out / "results.json")
    table = change_table(older, results)
    assert table.row_count == sum(len(row["metrics"]) for row in results["rows"])
    for row in older["rows"]:
        for score in row["metrics"].values():
            score["embedding"]["version"] = "0"
    with pytest.raises(ValueError, match="embeddings differ in version"):
        change_table(older, results)
    (tmp_path / "x.json").write_text('{"schema_version": 2, "rows": []}')
    with pytest.raises(ValueError, match="results of schema 2"):
        read_older(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_older(tmp_path / "missing.json")
