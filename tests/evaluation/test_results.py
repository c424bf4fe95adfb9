"""The one results model: directions, verdicts, differences, the file format and the tables that are made from it."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import (
    SCHEMA_VERSION,
    Results,
    Row,
    apart,
    arrow,
    compare_rows,
    paired,
    verdict,
)
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.tables import Sheet, change_sheet, csv_text, embedding_notes
from melody_cm.interfaces import EmbeddingIdentity

NEAR, FAR = [1.0, 2.0, 3.0, 4.0, 5.0], [2.1, 3.0, 4.2, 5.0, 6.1]


def score(value, low=None, high=None, too_few=False, n=8, **identity):
    known = {"name": "logmel", "version": "1", "weights": "none", "sample_rate": 16000, "window": "1 s"}
    embedding = asdict(EmbeddingIdentity(**{**known, "width": 32, "trained": False, **identity}))
    return Score(value, None, low, high, "jackknife", n, 50, too_few, embedding)


def row(label, num_steps=1, metrics=None, **samples):
    named = {key: {f"prompt {place}": value for place, value in enumerate(values)} for key, values in samples.items()}
    return Row(label, metrics or {}, num_steps, named)


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("fad_logmel", -2.0, -0.1, "better"),
        ("fad_logmel", 0.1, 2.0, "worse"),
        ("song_distance_logmel", 0.1, 2.0, "higher"),
        ("text_correlation_joint", 0.1, 2.0, "better"),
        ("text_similarity_joint", -2.0, -0.1, "worse"),
        ("si_snri_median", 0.1, 0.2, "better"),
        ("velocity_mse", 0.1, 0.2, "worse"),
        ("sim_aa@95_joint", -0.2, -0.1, "better"),
        ("tempo_agreement", 0.1, 0.2, "higher"),
        ("seam_ratio", -0.2, -0.1, "lower"),
        ("diversity_toy", 0.1, 0.2, "higher"),
        ("fad_logmel", -0.1, 2.0, "not distinguishable"),
        ("fad_logmel", 0.0, 2.0, "not distinguishable"),
        ("fad_logmel", None, 2.0, "too few clips"),
    ],
)
def test_a_verdict_follows_the_interval_and_the_direction_of_the_measure(metric, low, high, said):
    assert verdict(metric, low, high) == said


def test_arrows_show_the_direction():
    assert [arrow(key) for key in ("fad_x", "excess_x", "tempo_agreement")] == [" ↓", " ↑", ""]


def test_pairs_are_compared_on_what_both_have():
    first, second = row("a", fad_x=FAR), row("b", fad_x=NEAR)
    del second.samples["fad_x"]["prompt 4"]
    found = paired("fad_x", first, second)
    differences = np.subtract(FAR, NEAR)[:4]
    assert (found.n, found.difference) == (4, pytest.approx(differences.mean()))
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(differences, 0).confidence_interval(0.95))
    assert (found.first, found.second, found.verdict) == ("a, 1 step", "b, 1 step", "worse")
    assert paired("fad_x", first, row("b", fad_x=NEAR[:1])) is None
    assert paired("kad_x", first, second) is None


def test_all_pairs_or_each_against_the_baseline_at_the_same_number_of_steps():
    rows = [row(label, steps, fad_x=NEAR, excess_x=NEAR) for label in ("a", "b", "c") for steps in (1, 2)]
    assert len(compare_rows(rows)) == 15 * 2
    found = compare_rows(rows, baseline="b")
    assert [(one.metric, one.first, one.second) for one in found] == [
        (metric, f"{label}, {steps} step{'s'[: steps - 1]}", f"b, {steps} step{'s'[: steps - 1]}")
        for metric in ("excess_x", "fad_x")
        for label in ("a", "c")
        for steps in (1, 2)
    ]


def test_a_null_row_meets_its_own_system_alone():
    rows = [row(label, 1, fad_x=NEAR) for label in ("a", "b", "a-null", "b-null")]
    for own, null in ((0, 2), (1, 3)):
        rows[null].facts["null_of"] = rows[own].title
    found = compare_rows(rows)
    assert [(one.first, one.second) for one in found] == [
        ("a, 1 step", "b, 1 step"),
        ("a, 1 step", "a-null, 1 step"),
        ("b, 1 step", "b-null, 1 step"),
    ]


def test_verdicts_hold_the_correction_for_all_tests():
    first = row("a", fad_x=[0.3, 1.2, 2.5, 2.9], fad_y=[0.0, 0.1, 0.2, 0.3], fad_z=[0.0, 0.1, 0.2, 0.3])
    second = row("b", fad_x=[0.1, 0.8, 2.0, 2.7], fad_y=[0.1, 0.0, 0.3, 0.2], fad_z=[0.1, 0.0, 0.3, 0.2])
    found, *others = compare_rows([first, second])
    assert found.p == pytest.approx(
        stats.ttest_rel(*(list(one.samples["fad_x"].values()) for one in (first, second))).pvalue
    )
    assert found.p < 0.05 < found.p_holm == pytest.approx(3 * found.p)
    assert found.low > 0
    assert {one.verdict for one in (found, *others)} == {"not distinguishable"}
    (alone,) = compare_rows(
        [row("a", fad_x=list(first.samples["fad_x"].values())), row("b", fad_x=list(second.samples["fad_x"].values()))]
    )
    assert (alone.p_holm, alone.verdict) == (alone.p, "worse")


def test_scores_that_were_measured_apart_differ_where_their_intervals_part():
    def said(one, other):
        return apart("fad_logmel", ("this", score(*one)), ("older", score(*other))).verdict

    assert said((1.0, 0.5, 1.5), (3.0, 2.0, 4.0)) == "better"
    assert said((3.0, 2.0, 4.0), (1.0, 0.5, 1.5)) == "worse"
    assert said((3.0, 2.0, 4.0), (1.0, 0.5, 2.0)) == "not distinguishable"
    assert said((3.0,), (1.0, 0.5, 2.0)) == "too few clips"
    with pytest.raises(ValueError, match="embeddings differ in version '1' against '2'"):
        apart("fad_logmel", ("this", score(1.0)), ("older", score(1.0, version="2")))


@pytest.fixture
def results():
    rows = [
        row("a", 5, {"fad_logmel": score(1.23456, 1.0, 1.5)}, fad_x=FAR),
        row("b", 5, {"fad_logmel": score(2.0, too_few=True)}, fad_x=NEAR),
    ]
    rows[0].facts = {"speed": {"wall_seconds": 2.5, "parts": {"denoiser": 1.0}}, "silent_clips": 0, "clips": [1]}
    return Results("compare", {"command": "x", "baseline": "b"}, rows, compare_rows(rows))


def test_what_is_written_is_read(results, tmp_path):
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json", "compare") == results
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["schema_version"] == SCHEMA_VERSION
    assert data["differences"][0]["verdict"] == "worse"


def test_what_is_no_such_file_or_of_another_command_or_schema_is_refused(results, tmp_path):
    file = tmp_path / "results.json"
    with pytest.raises(FileNotFoundError, match=r"no such file; .* of an earlier `melody-cm compare`"):
        Results.read(file, "compare")
    results.write(file)
    with pytest.raises(ValueError, match=r"schema 5 and verb 'compare', but schema 5 of `melody-cm evaluate`"):
        Results.read(file, "evaluate")
    for other in ({"schema_version": 4, "rows": [], "verb": "compare"}, {"metrics": {}}):
        file.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=r"schema 5 of `melody-cm compare` is needed; compare again") as refusal:
            Results.read(file, "compare")
        assert "\n" not in str(refusal.value)


def test_rows_of_unlike_embeddings_do_not_stand_under_one_key(results):
    assert results.metrics() == ["fad_logmel"]
    results.rows[1].metrics["fad_logmel"].embedding["version"] = "2"
    with pytest.raises(ValueError, match="embeddings differ in version '1' against '2'"):
        results.metrics()


def test_changes_are_told_for_what_both_have(results):
    newer = Results("compare", {}, [row("a", 5, {"fad_logmel": score(0.5, 0.4, 0.6, n=9)}), row("c", 5)])
    sheet = change_sheet(results, newer)
    assert sheet.lines == [["a, 5 steps", "fad_logmel ↓", "1.235", "[1, 1.5]", "0.5", "[0.4, 0.6]", "better"]]
    assert sheet.notes == [
        "a, 5 steps, fad_logmel: unlike n: 8 against 9 generated clips; compare the corrected values"
    ]


def test_what_to_know_of_the_embeddings(results):
    text = " ".join(embedding_notes(results))
    assert (
        "fewer than 64 clips, or clips of fewer than 12 pieces or prompts, on a side: fad_logmel is mostly bias" in text
    )
    assert "hand-made features: it is not plain FAD" in text


def test_a_spreadsheet_has_every_number(results):
    first, second = csv.DictReader(csv_text(results).splitlines())
    assert (first["fad_logmel.value"], first["fad_x.prompt 2"], first["speed.wall_seconds"]) == (
        "1.23456",
        "4.2",
        "2.5",
    )
    assert (first["fad_x.difference.verdict"], second["fad_x.difference.verdict"]) == ("worse", "")
    assert "clips" not in first
    assert "speed.parts" not in first


def test_cells():
    assert score(1.23456).cell() == "1.235"
    assert score(1.23456, too_few=True).cell() == "1.235 †"
    assert Score(1.2, 1.111, 0.9, 1.322, "", 4, 4, False).cell() == "1.111 [0.9, 1.322]"
    assert Score(1.2, None, 0.9, 1.322, "", 4, 4, True).cell() == "1.2 [0.9, 1.322] †"
    assert row("a").cell("fad_x") == "-"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shows_every_word_of_every_cell_whole(width):
    headings = ["system", "steps ↓", "fad_logmel ↓", "times real time ↑", "prompt sensitivity", "passes per clip ↓"]
    line = ["a_system_of_a_long_name", "5", "1.235 †", "12.3 (10-15.1)", "0.5", "3 / 16"]
    sheet = Sheet(headings, [line], ["a note"])
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(sheet)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    words = [word for cell in [*headings, *line] for word in cell.split()]
    assert set(words) <= set(" ".join(lines).split())


def test_a_bar_in_a_name_does_not_break_a_markdown_table():
    assert "| a\\|b | 1 |" in Sheet(["x", "y"], [["a|b", "1"]], []).markdown()


def test_metadata_says_when_by_what_and_where():
    metadata = provenance(size="tiny", corpus=None)
    assert list(metadata) == ["created", "command", "git_revision", "machine", "size"]
    assert metadata["machine"]["versions"]["torch"]


def damaged(data):
    """Copies of plain data, each with one value replaced by something else, or left out."""
    places = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    for key, value in places:
        for other in (None, [], {}, "x", -1, [[]], {"a": None}):
            copy = data.copy()
            copy[key] = other
            yield copy
        if isinstance(data, dict):
            yield {name: one for name, one in data.items() if name != key}
        for inner in damaged(value):
            copy = data.copy()
            copy[key] = inner
            yield copy


def test_damaged_results_are_one_line_each(tmp_path):
    results = Results("evaluate", {"reference": "x"}, [row("a", None, {"fad_logmel": score(1.0, 0.5, 2.0)}, x=[1.0])])
    file, refused = tmp_path / "r.json", []
    for data in damaged(json.loads(json.dumps(results.as_dict()))):
        file.write_text(json.dumps(data))
        try:
            read = Results.read(file, "evaluate")
        except ValueError as error:
            refused.append(str(error))
        else:
            assert isinstance(read.metrics(), list)
            assert read.rows[0].title
    assert len(refused) > 150
    assert all(message.startswith(str(file)) and "\n" not in message for message in refused)
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not valid JSON"):
        Results.read(file, "evaluate")
