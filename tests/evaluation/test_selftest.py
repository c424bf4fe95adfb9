"""The selftest's battery: what must be noticed is, what cannot be is not, and halves share no piece."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from test_cli_evaluate import ToneEmbedding, run, write_preset, write_tone

from melody_cm.data import Clip
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.results import Row
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.selftest import (
    BASELINE,
    COPY,
    DAMAGES,
    NOTICED,
    SHUFFLED,
    disjoint_halves,
    plain_difference,
    selftest,
    selftest_rows,
    selftest_sheets,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))


def clip(name, piece):
    return Clip(name, Path(name), 0.0, None, "test", [], piece, name)


def test_no_piece_is_in_both_halves():
    clips = [clip(str(i), f"piece {i // 3}") for i in range(15)]
    halves = disjoint_halves(clips)
    assert sorted(one.id for half in halves for one in half) == sorted(one.id for one in clips)
    pieces = [{one.piece for one in half} for half in halves]
    assert not pieces[0] & pieces[1]
    assert [len(one) for one in pieces] == [3, 2]
    with pytest.raises(ValueError, match=r"2 clips of 1 piece\(s\); a selftest needs at least 2 pieces"):
        disjoint_halves([clip("a", "same"), clip("b", "same")])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("fad_x", 5.1, "not noticed"),
        ("fad_x", 5.3, "noticed"),
        ("fad_x", 0.0, "not noticed"),
        ("fad_x", -3.3, "noticed, as better"),
        ("text_correlation_x", 5.3, "noticed, as better"),
        ("text_correlation_x", -3.3, "noticed"),
    ],
)
def test_noticed_means_farther_than_the_uncertainty_of_both(key, value, expected):
    before = Score(1.0, 1.0, -2.0, 4.0, "", 9, 9, False)
    after = Score(value, None, -1.5, 4.5, "", 9, 9, False)
    assert NOTICED[plain_difference(Row("damaged", {key: after}), Row("whole", {key: before}), key).verdict] == expected
    unbounded = Row("whole", {key: replace(before, low=None)})
    assert plain_difference(Row("damaged", {key: after}), unbounded, key).verdict == "too few clips"


@pytest.fixture(scope="module")
def battery(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("melody_cm.evaluation.selftest.MIN_CLIPS", 68)
        patch.setattr("melody_cm.evaluation.selftest.CLIPS_PER_DIMENSION", 2)
        patch.setattr("melody_cm.evaluation.selftest.PROCEDURAL_SECONDS", 2.0)
        return selftest(embeddings=[LogMelEmbedding(num_bands=8)])


def verdicts(results, metric):
    return {one["first"]: NOTICED[one["verdict"]] for one in results["differences"] if one["metric"] == metric}


def test_logmel_notices_every_damage_and_a_copy(battery):
    undamaged, *rows = battery.rows
    assert [row.label for row in (undamaged, *rows)] == [BASELINE, *DAMAGES, COPY]
    found = verdicts(battery.as_dict(), "fad_logmel")
    for damage in ("silence", "white noise", "low-pass 1 kHz", "half volume"):
        assert found[damage] == "noticed", damage
    values = {row.label: row.metrics["fad_logmel"].value for row in rows}
    assert values["silence"] > values["white noise"] > values["low-pass 1 kHz"] > values["half volume"]
    assert values["half volume"] > undamaged.metrics["fad_logmel"].value
    assert values[COPY] == pytest.approx(0, abs=1e-6)
    left_out = {row.label: row.facts["left_out"]["logmel"] for row in rows}
    assert {damage: count for damage, count in left_out.items() if count} == {"silence": 34}
    assert json.dumps(battery.as_dict(), allow_nan=False)


def test_the_table_shows_values_intervals_and_verdicts(battery):
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(*selftest_sheets(battery))
    text = console.export_text()
    low = battery.rows[1].metrics["fad_logmel"].low
    for words in ("low-pass 1 kHz", "noticed", "34 of 34", "fad", "kad", "logmel", f"[{low:.4g}, "):
        assert words in text


def test_shuffled_captions_copies_and_unreadable_clips(tmp_path, capsys):
    rows = []
    for index in range(24):
        kind = "low" if index // 2 % 2 else "high"
        write_tone(tmp_path / f"{index}.wav", (300 if kind == "low" else 4000) + 10 * index)
        piece = {"id": str(index), "audio": f"{index}.wav", "caption": f"a {kind} tone", "piece": f"{index}"}
        rows.append({**piece, "split": "test"})
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    rows.append({"id": "x", "audio": "broken.wav", "caption": "a low tone", "piece": "x", "split": "test"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    write_preset(tmp_path / "tone.yaml")
    assert (
        run("--selftest", "--reference", tmp_path, "--embedding", tmp_path / "tone.yaml", "--out", tmp_path / "s.json")
        == 0
    )
    results = json.loads((tmp_path / "s.json").read_text())
    found = {row["label"]: row["metrics"] for row in results["rows"]}
    assert found[BASELINE]["text_correlation_tone"]["value"] == pytest.approx(1, abs=0.01)
    assert found[SHUFFLED].keys() == {"text_correlation_tone"}
    assert verdicts(results, "text_correlation_tone")[SHUFFLED] == "noticed"
    assert "text_correlation_tone" not in found[COPY]
    assert found[COPY]["sim_aa@95_tone"]["value"] == 1
    printed = capsys.readouterr().out
    assert "shuffled" in printed
    assert "tone" in printed


def test_a_selftest_without_a_readable_clip_says_so(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").touch()
    with pytest.raises(ValueError, match=r"none of the 1 clips of one half is usable; the first: .*empty"):
        run("--selftest", "--reference", tmp_path)


def test_an_embedding_without_texts_has_no_caption_row(tmp_path):
    class Deaf(ToneEmbedding):
        embed_text = property()

    clips = []
    for index in range(4):
        write_tone(tmp_path / f"{index}.wav", 300.0 + 50 * index)
        clips.append(Clip(str(index), tmp_path / f"{index}.wav", 0.0, None, "test", ["a"], str(index), ""))
    with Progress(console=Console(file=io.StringIO())) as progress:
        rows, _ = selftest_rows(clips, [Deaf(trained=False)], progress)
    assert SHUFFLED not in {row.label for row in rows}
    assert set(rows[0].metrics) == {"fad_tone", "kad_tone"}
    assert torch.is_grad_enabled()
