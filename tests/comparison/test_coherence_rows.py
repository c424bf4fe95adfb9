"""Long clips of a comparison are also asked how they hang together; short ones are not."""

import csv
import json
import math
from pathlib import Path

import jsonschema
import pytest
import soundfile
import torch
from toy_systems import MAX_SECONDS, SAMPLE_RATE, ToyEmbedding, toy_melody, toy_musiccm

from melody_cm.comparison import System, compare
from melody_cm.comparison.clips import Clips
from melody_cm.comparison.coherence import Coherence, Reference
from melody_cm.evaluation import (
    EmbeddingStatistics,
    chroma_agreement,
    embed,
    mean_interval,
    segment_similarity,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.results import Results
from melody_cm.evaluation.tables import change_sheet
from melody_cm.storage import read_json, write_json

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/results.schema.json").read_text())
PROMPTS, SEEDS, SECONDS = ["calm piano", "loud drums"], [0, 1], 15.0
OF_SEGMENTS = {"segment_similarity_toy", "tempo_agreement", "chroma_agreement", "diversity_toy"}

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft")


def music():
    return torch.randn(4, 1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.1


def run(out, seconds=SECONDS):
    systems = {"melody": System(toy_melody(max_seconds=SECONDS), [1]), "musiccm": System(toy_musiccm(), [2])}
    return compare(
        systems, PROMPTS, SEEDS, seconds, [(music(), SAMPLE_RATE, list("abcd"))], [ToyEmbedding()], out, repetitions=1
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("long")
    return run(out), out


def clips(row, out):
    files = [out / clip["file"] for clip in row.facts["clips"]]
    return [torch.from_numpy(soundfile.read(file, dtype="float32")[0])[None, None] for file in files]


def assert_is_the_mean_of(score, values, prompts=(0, 1, 0, 1)):
    told = [(float(value), prompt) for value, prompt in zip(values, prompts, strict=True) if math.isfinite(value)]
    values = [value for value, _ in told]
    assert (score.value, score.n_generated) == (pytest.approx(sum(values) / len(values)), len(values))
    low, high = mean_interval(values, [prompt for _, prompt in told])
    assert (score.low, score.high) == (None if low is None else pytest.approx(low), high and pytest.approx(high))


def test_every_measure_is_the_mean_of_its_function_over_the_written_clips(compared):
    results, out = compared
    centre = ToyEmbedding()(music()).flatten(0, 1).mean(0)
    for row in results.rows:
        waveforms = clips(row, out)
        expected = {
            "segment_similarity_toy": [
                segment_similarity(ToyEmbedding(), clip, SAMPLE_RATE, 5.0, centre) for clip in waveforms
            ],
            "tempo_agreement": [tempo_agreement(clip, SAMPLE_RATE) for clip in waveforms],
            "chroma_agreement": [chroma_agreement(clip, SAMPLE_RATE) for clip in waveforms],
        }
        for key, agreements in expected.items():
            score = row.metrics[key]
            assert_is_the_mean_of(score, [one.all_pairs for one in agreements])
            assert score.details["adjacent"] == pytest.approx(sum(one.adjacent for one in agreements) / 4, rel=1e-5)
            assert "5 s segments" in score.method


def test_diversity_compares_the_seeds_of_a_prompt_as_seen_from_the_reference(compared):
    results, out = compared
    centre = ToyEmbedding()(music()).flatten(0, 1).mean(0)
    for row in results.rows:
        vectors = {
            (clip["prompt"], clip["seed"]): embed(ToyEmbedding(), waveform, SAMPLE_RATE).mean((0, 1)) - centre
            for clip, waveform in zip(row.facts["clips"], clips(row, out), strict=True)
        }
        apart = [
            1 - torch.nn.functional.cosine_similarity(vectors[prompt, 0], vectors[prompt, 1], dim=0)
            for prompt in range(2)
        ]
        score = row.metrics["diversity_toy"]
        assert score.value == pytest.approx(float(sum(apart)) / 2, abs=1e-5)
        assert score.n_generated == 4


def test_seams_are_judged_only_of_a_system_that_knows_its_own(compared):
    results, out = compared
    melody, musiccm = results.rows
    assert "seam_ratio" not in melody.metrics
    joints = toy_musiccm().window_seconds(SECONDS)[1:]
    assert len(joints) > 20
    ratios = [waveform_seam_ratio(clip, SAMPLE_RATE, joints).item() for clip in clips(musiccm, out)]
    assert_is_the_mean_of(musiccm.metrics["seam_ratio"], ratios)


def test_all_tables_and_the_report_show_them_without_calling_either_end_better(compared):
    results, out = compared
    jsonschema.validate(json.loads((out / "results.json").read_text()), SCHEMA)
    text = (out / "table.md").read_text()
    summary, _, coherence = text.partition("**How long clips hang together**\n\n")
    assert "| 4 (2) / 4 (4) |" in summary
    header, _, melody, musiccm = coherence.splitlines()[:4]
    for column in ("seam_ratio (1 is none)", *OF_SEGMENTS):
        assert f"| {column} |" in header
        assert column not in summary
    place = header.strip("| ").split(" | ").index("seam_ratio (1 is none)")
    ratio = results.rows[1].metrics["seam_ratio"]
    cell = f"{ratio.value:.4g} [{ratio.low:.4g}, {ratio.high:.4g}]"
    assert melody.strip("| ").split(" | ")[place] == "-"
    assert musiccm.strip("| ").split(" | ")[place] == cell
    assert "How long clips hang together" in (out / "report.html").read_text()
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert float(rows[0]["chroma_agreement.value"]) == results.rows[0].metrics["chroma_agreement"].value
    assert float(rows[0]["tempo_agreement.adjacent"]) >= 0
    assert rows[0]["seam_ratio.value"] == ""
    report = (out / "report.html").read_text()
    assert "all pairs of 5 s segments" in report
    assert "neither end is better" in report


def test_what_changed_is_higher_or_lower_and_never_better(compared):
    results, out = compared
    older = Results.read(out / "results.json", "compare")
    for row, shift in zip(older.rows, (-10, 10), strict=True):
        for part in ("value", "low", "high"):
            score = row.metrics["tempo_agreement"]
            setattr(score, part, getattr(score, part) + shift)
    told = [line[-1] for line in change_sheet(older, results).lines if line[1] == "tempo_agreement"]
    assert told == ["higher", "lower"]


def test_they_are_read_again_and_added_to_what_an_older_judgement_lacks(compared, monkeypatch):
    results, out = compared
    file = out / "rows/melody_1.json"
    kept = read_json(file)
    older = {"made_from": {key: kept["made_from"][key] for key in ("clips", "references")}, "made": {}}
    write_json(file, older)
    assert [row.metrics for row in run(out).rows] == [row.metrics for row in results.rows]

    def never(self, references, coherence):
        raise AssertionError("judged again")

    monkeypatch.setattr(Clips, "measure", never)
    assert [row.metrics for row in run(out).rows] == [row.metrics for row in results.rows]


@pytest.mark.parametrize("seconds", [0.5, 14.9])
def test_clips_of_fewer_than_three_segments_are_not_asked(tmp_path, seconds):
    melody, musiccm = run(tmp_path, seconds).rows
    assert not OF_SEGMENTS & melody.metrics.keys()
    assert not OF_SEGMENTS & musiccm.metrics.keys()
    assert ("seam_ratio" in musiccm.metrics) == (seconds > MAX_SECONDS)
    table = (tmp_path / "table.md").read_text()
    assert "agreement" not in table
    assert ("seam_ratio" in table) == (seconds > MAX_SECONDS)


def test_silence_has_no_tempo_and_is_left_out_and_counted():
    statistics = EmbeddingStatistics.empty(2)
    statistics.add(ToyEmbedding()(music()), ["a", "b", "c", "d"])
    noise = torch.randn(1, 3, 15 * SAMPLE_RATE) * 0.1
    noise[:, 1] = 0
    scores = Coherence([], 5.0).scores(noise, SAMPLE_RATE, [Reference(ToyEmbedding(), statistics)])
    assert scores.keys() == OF_SEGMENTS - {"diversity_toy"}  # A single seed has none.
    for key in ("tempo_agreement", "chroma_agreement"):
        assert scores[key].n_generated == 2
        assert scores[key].dropped["generated"] == {"other": 1}
