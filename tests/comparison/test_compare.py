"""The comparison of two toy systems: a sound results.json, the same seeds for all prompts, honest marks."""

import io
import json
import math
import shutil

import pytest
import soundfile
import torch
from rich.console import Console
from toy_systems import SAMPLE_RATE, ToyEmbedding, toy_melody, toy_musiccm, toy_musiclm

from melody_cm.audio import GeneratedAudio
from melody_cm.cli.main import main
from melody_cm.comparison import System, compare, markdown_table, prompt_sensitivity, read_compare_recipe
from melody_cm.comparison.ceilings import MUSIC
from melody_cm.comparison.clips import Clips, Task
from melody_cm.comparison.coherence import Reference
from melody_cm.comparison.compare import clips_of
from melody_cm.comparison.compare_recipe import _clips_of, _reference, compare_recipe
from melody_cm.comparison.costs import closed_form, passes_of_a_clip
from melody_cm.comparison.speed import Runner, measure_in_turn, probe_machine
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.evaluation import EmbeddingStatistics, Judge, embed, frechet_distance, holm
from melody_cm.evaluation.forward_passes import musiclm_passes, saving
from melody_cm.evaluation.results import Results, compare_rows
from melody_cm.evaluation.tables import change_sheet
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.placement import Placement
from melody_cm.runs import Run, Setting

PROMPTS = ["calm piano", "loud drums", "slow strings"]


def reference(clips=6):
    music = [torch.randn(2, 1, SAMPLE_RATE) * 0.1 for _ in range(clips // 2)]
    return [(one, SAMPLE_RATE, [f"piece {place} {row}" for row in range(2)]) for place, one in enumerate(music)]


def run(tmp_path, **changes):
    arguments = {
        "systems": {"melody": System(toy_melody(), [1, 3]), "musiccm": System(toy_musiccm(), [1])},
        "prompts": PROMPTS,
        "seeds": [0, 1],
        "seconds": 0.5,
        "reference": reference(),
        "embeddings": [ToyEmbedding()],
        "out": tmp_path,
        "batch_size": 2,
        "repetitions": 1,
    }
    return compare(**arguments | changes)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("compared")
    return run(out, metadata={"size": "tiny"}), out


def test_results_json_is_what_is_returned_and_has_a_row_a_step_count(compared):
    results, out = compared
    assert Results.read(out / "results.json", "compare") == results
    assert results.metadata["size"] == "tiny"
    assert results.metadata["systems"]["melody"]["weights"] == toy_melody().weight_hashes()
    assert [row.title for row in results.rows] == ["melody, 1 step", "melody, 3 steps", "musiccm, 1 step"]
    for row in results.rows:
        metric = row.metrics["fad_toy"]
        assert (metric.n_generated, metric.n_reference, metric.embedding["name"]) == (6, 6, "toy")
        assert metric.value > 0
        assert row.metrics["kad_toy"].n_generated == 6
        assert row.facts["speed"]["times_real_time"] > 0
        assert row.facts["silent_clips"] == 0


def test_the_card_of_a_system_holds_its_rows_and_they_travel_with_it(compared, tmp_path, monkeypatch):
    results, out = compared
    pipeline = toy_melody()
    monkeypatch.setattr(Run, "pipeline", lambda run, name: pipeline)
    command = ["export", "runs/mine/melody", str(tmp_path / "one"), "--results", str(out / "results.json")]
    assert main(command) == 0
    PretrainedPipeline.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    card = (tmp_path / "one/README.md").read_text()
    assert card == (tmp_path / "two/README.md").read_text()
    assert "3 prompts x 2 seed(s), clips of 0.5 s, made on cpu in fp32" in card
    expected = [
        f"| {row.num_steps} | {key} | {row.cell(key)} | toy 1, weights none | {row.metrics[key].counts()} |"
        for row in results.rows[:2]
        for key in ("fad_toy", "kad_toy")
    ]
    assert [line for line in card.splitlines() if "toy 1" in line] == expected
    pipeline.denoiser.mix.weight.data += 1
    assert main(command) == 2


def test_results_say_where_and_how_precisely_and_unlike_ones_are_refused(compared, tmp_path):
    results, _ = compared
    cpu = {"device": "cpu", "precision": "fp32", "tf32": False}
    assert results.metadata["placement"] == cpu
    assert [row.facts["placement"] for row in results.rows] == [cpu] * 3
    half = run(
        tmp_path, systems={"musiccm": System(toy_musiccm().to("cpu", torch.bfloat16), [1])}, reference=reference()
    )
    assert half.rows[0].facts["placement"] == {**cpu, "precision": "bf16"}
    assert "All systems ran on cpu in bf16." in (tmp_path / "table.md").read_text()
    with pytest.raises(ValueError, match="precision 'fp32' against 'bf16'"):
        change_sheet(results, half)
    mixed = {"melody": System(toy_melody(), [1]), "musiccm": System(toy_musiccm().to("cpu", torch.bfloat16), [1])}
    with pytest.raises(ValueError, match="precision 'fp32' against 'bf16'"):
        run(tmp_path / "mixed", systems=mixed)
    assert not (tmp_path / "mixed").exists()


def test_a_quantization_is_said_of_all_systems_and_compared_with_no_other(tmp_path):
    systems = {"musiclm": System(toy_musiclm(), [1]), "musiccm": System(toy_musiccm(), [1])}
    Placement(torch.device("cpu"), "fp32", "int8").put(systems["musiclm"].pipeline.networks.values())
    with pytest.raises(ValueError, match="precision 'fp32 with int8 language models' against 'fp32'"):
        run(tmp_path, systems=systems)
    Placement(torch.device("cpu"), "fp32", "int8").put(systems["musiccm"].pipeline.networks.values())
    results = run(tmp_path, systems=systems, seconds=0.25, prompts=PROMPTS[:1], seeds=[0])
    assert {row.facts["placement"]["precision"] for row in results.rows} == {"fp32 with int8 language models"}
    assert "All systems ran on cpu in fp32 with int8 language models." in (tmp_path / "table.md").read_text()


def test_clips_of_another_precision_are_made_anew(tmp_path):
    pipeline = toy_musiccm()
    task = Task(PROMPTS, [0], 0.5, 2)
    keys = [Clips("musiccm", pipeline.to("cpu", dtype), 1, task, tmp_path).key for dtype in (None, torch.bfloat16)]
    assert len(set(keys)) == 2


def test_a_comparison_tells_its_parts_and_has_one_bar_which_ends_full(tmp_path, capsys):
    run(tmp_path, systems={"musiccm": System(toy_musiccm(), [1])}, prompts=PROMPTS[:1], seeds=[0])
    lines = capsys.readouterr().err.splitlines()
    parts = ["reference", "clips", "judging", "real music", "speed"]
    assert [line for line in lines if " of " in line] == [f"part {n} of 5: {one}" for n, one in enumerate(parts, 1)]
    assert [line.split()[0] for line in lines if "%" in line] == ["speed"]
    assert "100%" in lines[-1]


def test_a_part_fills_its_share_of_the_bar_and_no_more():
    bar = TotalBar({"first": 3, "second": 1}, Console(file=io.StringIO()))
    shown = []
    with bar.part("first"):
        for amount in (2, 5):
            bar.advance(amount)
            shown.append(bar.done)
    with bar.part("second"):
        pass
    assert [*shown, bar.done] == [2 / 4, 3 / 4, 1]


def test_passes_are_counted_beside_the_formula(compared):
    results, out = compared
    expected = {"melody": (13, 2), "musiccm": (0, 1)}  # 0.5 s at 25 codes a second; guidance doubles melody's batch.
    for row in results.rows:
        tokens, rows_a_step = expected[row.label]
        steps, passes = row.num_steps, row.facts["passes"]
        assert passes["measured"]["denoiser"] == {"batched": steps, "doubled": rows_a_step * steps}
        assert passes["total"] == passes["measured"]["denoiser"]  # The toy language model has no body to be called.
        assert passes["closed_form"] == tokens + steps
        assert passes["saving"] == pytest.approx(1 - (tokens + steps) / (13 + 12 * 25))
    assert "| 3 / 16 | 94.9% |" in (out / "table.md").read_text()
    assert "25 + 200 + 400 tokens a second, 313 a clip" in (out / "table.md").read_text()


def test_every_clip_is_the_one_its_row_names(compared):
    results, out = compared
    for row in results.rows:
        pipeline = toy_melody() if row.label == "melody" else toy_musiccm()
        assert len({clip["noise_seed"] for clip in row.facts["clips"]}) == len(row.facts["clips"]) == 6
        for clip in row.facts["clips"]:
            assert clip["file"].startswith(f"audio/{row.label}/{row.num_steps}/")
            written, sample_rate = soundfile.read(out / clip["file"], dtype="float32")
            prompt = PROMPTS[clip["prompt"]]
            made = pipeline.generate([prompt], 0.5, [clip["noise_seed"]], row.num_steps).waveform[0, 0]
            torch.testing.assert_close(torch.from_numpy(written), made, rtol=0, atol=1e-4)
            assert sample_rate == SAMPLE_RATE


def test_the_distance_is_that_of_the_written_audio_to_the_reference(tmp_path):
    real = reference()
    row = run(tmp_path, reference=real, systems={"melody": System(toy_melody(), [2])}).rows[0]
    audio = [
        torch.from_numpy(soundfile.read(tmp_path / clip["file"], dtype="float32")[0]) for clip in row.facts["clips"]
    ]
    sides = [torch.stack(audio)[:, None], torch.cat([waveform for waveform, _, _ in real])]
    frames = [ToyEmbedding()(side).double().flatten(0, 1) for side in sides]
    expected = frechet_distance(*[part for x in frames for part in (x.mean(0), torch.cov(x.T))])
    assert row.metrics["fad_toy"].value == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("prompts", "too_few"), [(7, True), (8, False)])
def test_too_few_prompts_are_marked_in_results_and_table(tmp_path, prompts, too_few):
    results = run(tmp_path, prompts=EIGHT[:prompts], reference=reference(16))
    assert {row.metrics["fad_toy"].too_few for row in results.rows} == {too_few}
    assert ("clips of fewer than 8 pieces or prompts" in (tmp_path / "table.md").read_text()) is too_few


def test_one_clip_a_side_has_no_kernel_distance_but_still_a_row(tmp_path):
    (row,) = run(tmp_path, seeds=[0], prompts=PROMPTS[:1], systems={"melody": System(toy_melody(), [1])}).rows
    assert set(row.metrics) == {"fad_toy", *MUSIC}
    assert "fewer than 4 clips" in (tmp_path / "table.md").read_text()


def test_clips_of_one_prompt_are_left_out_together(tmp_path, monkeypatch):
    pieces = []
    monkeypatch.setattr(Judge, "add", lambda self, frames, *told: pieces.append(told[:2]))
    monkeypatch.setattr(Judge, "scores", lambda self: {})
    run(tmp_path, systems={"melody": System(toy_melody(), [1])}, batch_size=3)
    assert [ids for _, ids in pieces] == [PROMPTS, PROMPTS]
    assert len({clip for clips, _ in pieces for clip in clips}) == 6


def test_a_system_deaf_to_its_prompt_shows(tmp_path):
    deaf = toy_musiccm()
    torch.nn.init.zeros_(deaf.denoiser.condition.weight)
    results = run(tmp_path, systems={"deaf": System(deaf, [1]), "musiccm": System(toy_musiccm(), [1])})
    deaf_row, row = results.rows
    assert deaf_row.facts["prompt_sensitivity"] == pytest.approx(0, abs=1e-5)
    assert row.facts["prompt_sensitivity"] > 1e-3


def test_prompt_sensitivity_of_known_signals():
    noise = torch.randn(3, 20000)
    assert prompt_sensitivity(noise) == pytest.approx(math.sqrt(2), rel=0.02)
    same = noise[:1].expand(4, -1)
    assert prompt_sensitivity(same) == 0
    assert prompt_sensitivity(torch.stack([same[0], -same[0]])) == pytest.approx(2)
    assert prompt_sensitivity(torch.zeros(2, 10)) == 0
    assert prompt_sensitivity(noise[:1]) is None
    assert prompt_sensitivity(torch.stack([noise[0], torch.zeros(20000)])) == pytest.approx(2)


def test_silent_clips_are_counted(tmp_path):
    silent = toy_musiccm()
    silent.autoencoder.gain = 0.0
    assert run(tmp_path, systems={"silent": System(silent, [1])}).rows[0].facts["silent_clips"] == 6


class SlowPipeline(Pipeline):
    """Takes the times it is told, one a call."""

    def __init__(self, clock, times, order, name):
        self.clock, self.times, self.order, self.name = clock, list(times), order, name

    def generate(self, prompts, seconds, seed=0, num_steps=None, guidance_scale=None):
        taken = self.times.pop(0)
        self.order.append(self.name)
        self.clock[0] += taken
        return GeneratedAudio(torch.zeros(1, 1, 4), 8, {"denoiser": taken / 2})


def test_speeds_are_medians_of_runs_in_turn(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr("melody_cm.comparison.speed.time.perf_counter", lambda: clock[0])
    runners = [
        Runner(SlowPipeline(clock, [100.0, 100.0, 4.0, 1.0, 2.0], order, "a"), "x", 10.0, 5),
        Runner(SlowPipeline(clock, [100.0, 100.0, 8.0, 8.0, 8.0], order, "b"), "x", 10.0, 5),
    ]
    assert len(list(measure_in_turn(runners, 3))) == 2 + 6
    assert "".join(order) == "aabb" + "ababab"
    speed = runners[0].summary()
    assert speed["times_real_time"] == pytest.approx(10 / 2)
    assert speed["times_real_time_range"] == pytest.approx([10 / 4, 10 / 1])
    assert speed["parts"]["denoiser"] == pytest.approx(1)
    assert speed["first_audio_seconds"] == pytest.approx(2)
    with pytest.raises(ValueError, match="repetitions is 0"):
        list(measure_in_turn(runners, 0))


def test_operations_and_parameters_of_a_clip_are_counted(compared):
    speed = compared[0].rows[0].facts["speed"]
    networks = toy_melody().networks.values()
    assert speed["parameters"] == sum(p.numel() for network in networks for p in network.parameters())
    assert compared[0].rows[1].facts["speed"]["flops"] > speed["flops"] > 0


def test_the_probe_is_a_plausible_speed():
    assert 0.5 < probe_machine(torch.device("cpu")) < 1e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "needs systems, prompts"),
        ({"embeddings": []}, "needs systems, prompts"),
        ({"prompts": ["a", "a"]}, "prompts repeat"),
        ({"seeds": [1, 1]}, "seeds repeat"),
        ({"seconds": 9.0}, "melody makes at most 1"),
        ({"systems": {"../up": System(toy_melody(), [1])}}, "cannot name a folder"),
        ({"systems": {"melody": System(toy_melody(), [])}}, "num_steps of melody"),
        ({"systems": {"melody": System(toy_melody(), [0])}}, "num_steps of melody"),
        ({"reference": []}, "no usable clip"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)
    assert not any(tmp_path.iterdir())


EIGHT = [f"prompt of {word}" for word in ["calm", "loud", "slow", "fast", "high", "low", "soft", "hard"]]


def test_there_is_no_verdict_of_fewer_than_eight_prompts(tmp_path):
    systems = {"melody": System(toy_melody(), [1]), "musiccm": System(toy_musiccm(), [1])}
    for prompts, tests in ((EIGHT[:7], 0), (EIGHT, 2)):
        results = run(tmp_path, prompts=prompts, systems=systems, reference=reference(16))
        told = [results.differences, json.loads((tmp_path / "results.json").read_text())["differences"]]
        assert [len(found) for found in told] == [tests, tests]
        assert ("Pair by pair" in (tmp_path / "report.html").read_text()) is bool(tests)
        assert ("at least 8 prompts" in (tmp_path / "table.md").read_text()) is not bool(tests)
    assert {(one.metric, one.n) for one in results.differences} == {("fad_toy", 8), ("kad_toy", 8)}


def test_a_null_row_is_the_same_system_with_other_seeds(tmp_path):
    systems = {"melody": System(toy_melody(), [1, 2], null=True), "musiccm": System(toy_musiccm(), [1])}
    results = run(tmp_path, prompts=EIGHT, systems=systems, reference=reference(16))
    rows = {row.title: row for row in results.rows}
    null = rows["melody-null, 1 step"]
    assert null.facts["null_of"] == "melody, 1 step"
    assert (null.facts["speed"], null.facts["passes"]) == (None, None)
    noises = [{clip["noise_seed"] for clip in rows[title].facts["clips"]} for title in ("melody, 1 step", null.title)]
    assert [len(noise) for noise in noises] == [16, 16]
    assert not noises[0] & noises[1]
    met = {one.first for one in results.differences if one.second == null.title}
    assert met == {"melody, 1 step"}
    assert len(results.differences) == 2 * (3 + 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_system_against_itself_is_called_different_in_few_comparisons(tmp_path):
    """The whole path: clips are made, written, read, embedded and judged; 200 families of two rows and their nulls."""
    embedding, alarms = ToyEmbedding(), 0
    waveform, statistics = torch.randn(64, 1, SAMPLE_RATE // 2) * 0.1, EmbeddingStatistics.empty(embedding.width)
    statistics.add(embed(embedding, waveform, SAMPLE_RATE), [f"piece {clip // 4}" for clip in range(64)])
    references = [Reference(embedding, statistics)]
    systems = {"melody": System(toy_melody(), [1], null=True), "musiccm": System(toy_musiccm(), [1], null=True)}
    for contest in range(200):
        task = Task(EIGHT, [3 * contest + 1000 * take for take in range(3)], 0.25, 16)
        out = tmp_path / str(contest)
        rows = [clips for name, system in systems.items() for clips in clips_of(name, system, task, out)]
        for clips in rows:
            clips.make(TotalBar({}))
        judged = [clips.judge(references) for clips in rows]
        found = [one for one in compare_rows(judged, fewest=8) if one.second.endswith("-null, 1 step")]
        assert len(found) == 4
        # The differences of the two systems are no false alarms: the family is that of the nulls.
        alarms += any(p <= 0.05 for p in holm([one.p for one in found]))
        shutil.rmtree(out)
    assert alarms <= 12


def test_the_table_holds_every_row_and_says_what_the_numbers_are_not(compared):
    results, out = compared
    table = (out / "table.md").read_text()
    assert table == markdown_table(results)
    assert "fad_toy ↓" in table
    assert "times real time ↑" in table
    assert "kad_toy ↓" in table
    assert "not plain FAD" in table
    lines = [line for line in table.split("\n\n")[0].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {10}
    assert "| 6 (3) / 6 (6) |" in lines[2]


RECIPE = {"size": "tiny", "seconds": 1.0, "prompts": ["a"], "seeds": [0], "embeddings": [], "reference": "test"}
OWN = {"melody": {"pipeline": "configs/pipeline/melody.yaml", "num_steps": [1]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "nowhere", "systems": OWN}, "reference is 'nowhere', neither a split"),
        ({"systems": {"a": {"baseline": "musicgen:random", "num_steps": [1]}}}, "no system has a pipeline"),
        (
            {"systems": {"a": {"source": "demo:a", "num_steps": [1]}}, "corpus": "nowhere"},
            "corpus is 'nowhere', not there",
        ),
        (
            {"systems": {"a": {"source": "a", "pipeline": "b", "num_steps": [1]}}},
            "needs a pipeline, a source or a base",
        ),
        ({"second": 1.0, "systems": OWN}, "second.*nearest valid key is 'seconds'"),
        ({"seconds": "long", "systems": OWN}, "seconds"),
        ({"systems": {"a": {"pipeline": "configs/pipeline/melody.yaml"}}}, "systems.a.*num_steps"),
        ({"systems": {"a": 1}}, "systems"),
        ({}, "systems"),
    ],
)
def test_a_recipe_that_is_not_sound_is_refused_in_one_line(tmp_path, changes, message):
    (tmp_path / "mine.yaml").write_text(json.dumps({**RECIPE, **changes}))
    with pytest.raises(ValueError, match=rf"mine\.yaml.*{message}") as refusal:
        read_compare_recipe(tmp_path / "mine.yaml")
    assert "\n" not in str(refusal.value)


def test_prompts_may_be_a_text_file_beside_the_recipe_and_presets_those_that_ship(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n\n two \n")
    (tmp_path / "mine.yaml").write_text(json.dumps({**RECIPE, "prompts": "prompts.txt", "systems": OWN}))
    recipe = read_compare_recipe(tmp_path / "mine.yaml")
    assert recipe.prompts == ["one", "two"]
    assert recipe.presets[0].is_file()


@pytest.mark.parametrize(("name", "split"), [("validation", "valid"), ("dev", "valid"), ("heldout", "test")])
def test_the_fields_names_of_splits_are_taken(tmp_path, name, split):
    (tmp_path / "mine.yaml").write_text(json.dumps({**RECIPE, "reference": name, "systems": OWN}))
    assert read_compare_recipe(tmp_path / "mine.yaml").reference == split


def test_other_music_may_be_the_reference_with_the_pieces_of_its_manifest(tmp_path):
    rows = []
    for index, split in enumerate(("train", "test", "test")):
        soundfile.write(tmp_path / f"{index}.wav", torch.randn(3 * 16000).numpy() * 0.1, 16000)
        named = {"id": index, "audio": f"{index}.wav", "caption": None}
        rows.append({**named, "split": split, "piece": f"song {min(index, 1)}"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.yaml").write_text(json.dumps({**RECIPE, "reference": ".", "systems": OWN}))
    recipe = read_compare_recipe(tmp_path / "mine.yaml")
    found = list(_clips_of(*_reference(recipe, Setting("tiny"))))
    assert [pieces for _, _, pieces in found] == [["song 0"], ["song 1", "song 1"]]
    assert [waveform.shape for waveform, rate, _ in found] == [(len(p), 1, found[0][1]) for _, _, p in found]


def test_passes_of_several_windows_are_counted_and_have_no_formula():
    pipeline = toy_musiccm()
    assert closed_form(pipeline, pipeline.max_seconds, 2) == 2
    assert closed_form(pipeline, 3 * pipeline.max_seconds, 2) is None
    passes = passes_of_a_clip(pipeline, "calm piano", 0, 3 * pipeline.max_seconds, 2)
    windows = len(pipeline.window_seconds(3 * pipeline.max_seconds))
    assert passes["total"]["batched"] == 2 * windows > 2
    assert passes["saving"] == pytest.approx(
        saving(passes["total"]["batched"], musiclm_passes(3 * pipeline.max_seconds))
    )


def test_finished_systems_are_compared_on_music_that_the_recipe_names(tmp_path):
    for name, toy in (("melody", toy_melody()), ("musiccm", toy_musiccm())):
        toy.save_pretrained(tmp_path / name)
    (tmp_path / "music").mkdir()
    rows = []
    for index, split in enumerate(["test", "valid"] * 3):
        sound = torch.randn(24000, generator=torch.Generator().manual_seed(index)).numpy() * 0.1
        soundfile.write(tmp_path / f"music/{index}.wav", sound, 24000)
        rows.append(
            {"id": index, "audio": f"{index}.wav", "caption": "loud noise", "split": split, "piece": str(index)}
        )
    (tmp_path / "music/manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    systems = {name: {"source": str(tmp_path / name), "num_steps": [1]} for name in ("melody", "musiccm")}
    recipe = {
        **RECIPE,
        "prompts": ["a", "b", "c"],
        "seeds": [0, 1],
        "embeddings": ["configs/embedding/logmel.yaml"],
        "corpus": "music",
        "systems": systems,
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe))
    results = compare_recipe(tmp_path / "mine.yaml", Run(tmp_path / "run"), tmp_path / "out")
    assert [row.title for row in results.rows if "step" in row.title] == ["melody, 1 step", "musiccm, 1 step"]
    assert "real music" in [row.title for row in results.rows]
    assert results.metadata["corpus"] == str(tmp_path / "music")
    assert not (tmp_path / "run").exists()
