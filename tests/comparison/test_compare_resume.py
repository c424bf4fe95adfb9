"""A comparison that is broken off goes on; nothing that is there already is made or judged again."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from toy_systems import SAMPLE_RATE, ToyEmbedding, toy_melody, toy_musiccm

from melody_cm.comparison import System, compare
from melody_cm.comparison.clips import Clips
from melody_cm.evaluation.results import Results
from melody_cm.evaluation.tables import change_sheet
from melody_cm.storage import locked

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/results.schema.json").read_text())
PROMPTS = ["calm piano", "loud drums", "slow strings"]


class Killed(BaseException):
    """Stands for a process that ends without warning."""


def run(out, seconds=0.5, **changes):
    generator = torch.Generator().manual_seed(0)
    music = [torch.randn(2, 1, SAMPLE_RATE, generator=generator) * 0.1 for _ in range(3)]
    reference = [(one, SAMPLE_RATE, [f"{place} a", f"{place} b"]) for place, one in enumerate(music)]
    systems = {"melody": System(toy_melody(), [1, 2]), "musiccm": System(toy_musiccm(), [1])}
    arguments = {"batch_size": 2, "repetitions": 1, **changes}
    return compare(systems, PROMPTS, [0, 1], seconds, reference, [ToyEmbedding()], out, **arguments)


def without_times(results):
    data = results.as_dict()
    for row in data["rows"]:
        del row["facts"]["speed"]
    timed = ("created", "command", "probe")
    metadata = {key: value for key, value in data["metadata"].items() if key not in timed}
    return metadata, data["rows"], data["differences"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return run(out), out


@pytest.mark.parametrize("calls", [1, 7])
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
    clip = out / results.rows[0].facts["clips"][3]["file"]
    content = clip.read_bytes()
    clip.unlink()
    run(out)
    assert clip.read_bytes() == content


def test_nothing_is_made_judged_or_timed_twice(monkeypatch, undisturbed):
    def never(self, *arguments, **options):
        raise AssertionError("made again")

    monkeypatch.setattr(Clips, "measure", never)
    for kind in (type(toy_melody()), type(toy_musiccm())):
        monkeypatch.setattr(kind, "generate", never)
    again = run(undisturbed[1])
    assert without_times(again) == without_times(undisturbed[0])
    assert again.rows == undisturbed[0].rows


def test_another_request_is_made_anew(tmp_path):
    clip, made = tmp_path / "audio/melody/1/prompt000_seed0.wav", []
    for change in ({}, {"seconds": 0.25}, {"seconds": 0.25, "batch_size": 3}):
        run(tmp_path, **change)
        made.append(clip.stat().st_mtime_ns)
    assert made[0] < made[1] < made[2]


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


def test_what_changed_since_older_results(undisturbed):
    results, out = undisturbed
    older = Results.read(out / "results.json", "compare")
    sheet = change_sheet(older, results)
    assert len(sheet.lines) == sum(len(row.metrics) for row in results.rows)
    assert {line[-1] for line in sheet.lines} == {"not distinguishable", "too few clips"}
    for row in older.rows:
        for score in (score for score in row.metrics.values() if score.embedding):
            score.embedding["version"] = "0"
    with pytest.raises(ValueError, match="embeddings differ in version"):
        change_sheet(older, results)


def test_two_comparisons_do_not_write_into_one_folder(tmp_path):
    with locked(tmp_path / ".lock"), pytest.raises(ValueError, match="another comparison writes into"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == []
