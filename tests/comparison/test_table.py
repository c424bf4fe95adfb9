"""Tables of comparisons from hand-written rows."""

import csv
from dataclasses import asdict

import pytest
from rich.console import Console

from melody_cm.comparison import markdown_table, rich_table
from melody_cm.evaluation import Score
from melody_cm.evaluation.results import Difference, Results, Row
from melody_cm.evaluation.tables import csv_text
from melody_cm.interfaces import EmbeddingIdentity


def results(trained, too_few, interval=(None, None, None), version="1", steady=True):
    identity = EmbeddingIdentity("vggish", version, "abc", 16000, "0.96 s", 128, trained)
    metric = Score(1.23456, *interval, "jackknife", 4, 50, too_few, asdict(identity))
    speed = {"times_real_time": 12.345, "times_real_time_range": [10.04, 15.06], "steady": steady}
    row = Row("a|b", {"fad_vggish": metric}, 5, facts={"speed": speed, "prompt_sensitivity": None, "silent_clips": 0})
    return Results("compare", {"embeddings": [asdict(identity)]}, [row])


def test_a_value_with_too_few_clips_carries_a_mark_and_a_note():
    marked, plain = (markdown_table(results(True, too_few)) for too_few in (True, False))
    assert "| 1.235 † |" in marked
    assert "fewer than 256 clips" in marked
    assert "| 1.235 |" in plain
    assert "†" not in plain


def test_a_speed_whose_repetitions_differ_much_carries_a_mark():
    assert "| 12.3 (10-15.1) |" in markdown_table(results(True, False))
    assert "| 12.3 (10-15.1) ‡ |" in markdown_table(results(True, False, steady=False))


def test_decided_tests_are_told_with_the_number_of_all():
    compared = results(True, False)
    compared.differences = [
        Difference("a", "b", "fad_x", -2.0, -3.0, -1.0, 24, 0.001, 0.003),
        Difference("a", "c", "fad_x", -2.0, -3.9, -0.1, 24, 0.04, 0.08),
    ]
    text = markdown_table(compared)
    assert "| a | b | fad_x | -2 [-3, -1] | 0.003 | better |" in text
    assert "| a | c |" not in text
    assert "holds 2 tests, 1 of them decided" in text
    assert "at least 8 prompts" in markdown_table(results(True, False))


def test_an_interval_comes_with_the_corrected_value():
    assert "| 1.111 [0.9, 1.322] |" in markdown_table(results(True, False, interval=(1.111, 0.9, 1.322)))
    assert "| 1.235 [0.9, 1.322] † |" in markdown_table(results(True, True, interval=(None, 0.9, 1.322)))


def test_rows_of_unlike_embeddings_do_not_stand_in_one_table():
    joined = results(True, False)
    joined.rows += results(True, False, version="2").rows
    with pytest.raises(ValueError, match="embeddings differ in version '1' against '2'"):
        markdown_table(joined)


def test_only_hand_made_features_are_denied_the_name_of_fad():
    assert "not plain FAD" in markdown_table(results(False, False))
    assert "not plain FAD" not in markdown_table(results(True, False))


def test_a_bar_in_a_name_does_not_break_the_table():
    assert "| a\\|b | 5 | 1.235 | 4 / 50 | 12.3 (10-15.1) | - |" in markdown_table(results(True, False))


def test_the_terminal_table_shows_the_same_cells():
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table(results(True, True)))
    text = console.export_text()
    for cell in ("a|b", "1.235 †", "4 / 50", "12.3", "fewer than 256 clips"):
        assert cell in text


def test_passes_stand_beside_the_formula_where_there_is_one():
    told = results(True, False)
    assert "| 12.3 (10-15.1) | - | - | - |" in markdown_table(told)
    told.metadata["seconds"] = 10.0
    told.rows[0].facts["passes"] = {"total": {"batched": 271, "doubled": 291}, "closed_form": 270, "saving": 0.9568}
    assert "| 271 / 270 | 95.7% |" in markdown_table(told)
    assert "25 + 200 + 400 tokens a second, 6250 a clip." in markdown_table(told)
    told.rows[0].facts["passes"]["closed_form"] = None
    assert "| 271 / - | 95.7% |" in markdown_table(told)


def with_text(**details):
    told = results(True, False)
    identity = told.metadata["embeddings"][0]
    score = Score(0.4, 0.4, 0.3, 0.5, "Student", 4, 4, False, identity, details=details)
    told.rows[0].metrics["text_correlation_vggish"] = score
    return told


def test_the_excess_over_the_captions_of_other_clips_stands_beside_the_correlation():
    told = with_text(shuffled=0.35, excess=0.05, excess_low=-0.01, excess_high=0.11)
    table = markdown_table(told)
    assert "| text_correlation_vggish ↑ | excess_vggish ↑ |" in table
    assert "| 0.4 [0.3, 0.5] | 0.05 [-0.01, 0.11] |" in table
    assert "above that with the captions of the other clips" in table
    (row,) = csv.DictReader(csv_text(told).splitlines())
    assert (row["text_correlation_vggish.excess"], row["text_correlation_vggish.excess_low"]) == ("0.05", "-0.01")


def test_a_row_without_an_excess_or_its_interval_shows_no_number_that_is_not_there():
    assert "excess" not in markdown_table(with_text())
    told = with_text(excess=0.05)
    told.rows += with_text().rows
    table = markdown_table(told)
    assert "| 0.4 [0.3, 0.5] | 0.05 |" in table
    assert "| 0.4 [0.3, 0.5] | - |" in table
