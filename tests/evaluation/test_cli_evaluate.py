"""`melody-cm evaluate` on folders of audio: numbers, prompts, memorization, broken files, what is refused."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from test_kernel import slow_distance as kernel_distance
from torch import nn

from melody_cm.cli.main import build_parser, main
from melody_cm.evaluation import frechet_distance, judge, load_embedding
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.interfaces import AudioEmbedding, EmbeddingIdentity
from melody_cm.storage import read_json

RATE = 16000


class ToneEmbedding(AudioEmbedding):
    """Text and audio in one space of 2 numbers: low and high. A stand-in for a trained joint embedding."""

    def __init__(self, version: str = "1", trained: bool = True) -> None:
        super().__init__()
        self.identity = EmbeddingIdentity("tone", version, "abc", RATE, "1 s", 2, trained)

    def forward(self, waveform):
        seconds = waveform[:, 0, : waveform.shape[-1] // RATE * RATE].unflatten(-1, (-1, RATE))
        power = torch.fft.rfft(seconds).abs().square()
        sides = torch.stack([power[..., :1000].sum(-1), power[..., 1000:].sum(-1)], -1)
        return nn.functional.normalize(sides, dim=-1)

    def embed_text(self, texts):
        return torch.tensor([[1.0, 0.0] if "low" in text else [0.0, 1.0] for text in texts])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("melody_cm.evaluation.judge.find_spec", lambda package: None)  # musicnn: seconds a test.


def run(*words):
    arguments = build_parser(["evaluate"]).parse_args(["evaluate", *(str(word) for word in words)])
    return arguments.handler(arguments)


def write_noise(file, scale, seconds=2.0):
    noise = (scale * torch.randn(int(seconds * RATE))).clamp(-1, 1)
    soundfile.write(file, noise.numpy(), RATE, subtype="FLOAT")


def write_tone(file, hertz, amplitude=0.5):
    tone = amplitude * torch.sin(2 * math.pi * hertz * torch.arange(2 * RATE) / RATE)
    soundfile.write(file, tone.numpy(), RATE, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path):
    for side, scale in (("generated", 0.1), ("reference", 0.3)):
        (tmp_path / side).mkdir()
        for index in range(3):
            write_noise(tmp_path / side / f"{index}.wav", scale)
    return tmp_path


def evaluate(folder, *words, generated="generated", out="r.json"):
    sides = ("--generated", folder / generated, "--reference", folder / "reference")
    assert run(*sides, "--out", folder / out, *words) == 0
    return row_of(folder / out)


def row_of(file):
    """The only row of results."""
    (row,) = json.loads(file.read_text())["rows"]
    return row


@pytest.fixture
def tones(folders):
    """Three low and three high tones on each side, and a preset of the tone embedding."""
    for side, step in (("generated", 0), ("reference", 7)):
        for file in (folders / side).iterdir():
            file.unlink()
        for index in range(3):
            write_tone(folders / side / f"high{index}.wav", 4000 + 100 * index + step)
            write_tone(folders / side / f"low{index}.wav", 300 + 40 * index + step)
    write_preset(folders / "tone.yaml")
    return folders


def write_preset(path, **arguments):
    kind = f"{ToneEmbedding.__module__}.{ToneEmbedding.__qualname__}"
    path.write_text(yaml.safe_dump({"class_path": kind, "init_args": arguments}))


def clip_frames(folder):
    waveforms = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in sorted(folder.iterdir())]
    return LogMelEmbedding()(torch.stack(waveforms)[:, None]).double()


def test_the_distances_between_two_folders(folders, capsys):
    results = evaluate(folders)
    ours, theirs = (clip_frames(folders / side) for side in ("generated", "reference"))
    gaussians = [part for x in (ours, theirs) for part in (x.flatten(0, 1).mean(0), torch.cov(x.flatten(0, 1).T))]
    fad, kad = results["metrics"]["fad_logmel"], results["metrics"]["kad_logmel"]
    assert fad["value"] == pytest.approx(frechet_distance(*gaussians), rel=1e-6)
    assert kad["value"] == pytest.approx(kernel_distance(ours.mean(1).tolist(), theirs.mean(1).tolist()), rel=1e-6)
    assert (fad["n_generated"], fad["n_reference"], fad["too_few"], fad["corrected"]) == (3, 3, True, None)
    assert set(results["samples"]["song_distance_logmel"]) == {"0.wav", "1.wav", "2.wav"}
    assert fad["embedding"]["name"] == "logmel"
    metadata = read_json(folders / "r.json")["metadata"]
    assert metadata["machine"]["versions"]["torch"]
    assert metadata["reference"] == str(folders / "reference")
    printed = capsys.readouterr().out
    for words in ("fad_logmel", "kad_logmel", "too few", "not plain FAD", "farthest clips by fad_logmel"):
        assert words in " ".join(printed.split())


@pytest.mark.parametrize("out", [".", "a_file/results.json"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(folders, monkeypatch, out):
    (folders / "a_file").touch()
    monkeypatch.setattr(judge, "load_embedding", lambda name: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match=r"--out .* is a folder, or lies below a file"):
        evaluate(folders, out=out)


def test_a_folder_against_itself_is_at_distance_0(folders):
    fad = evaluate(folders, generated="reference")["metrics"]["fad_logmel"]
    assert fad["value"] == pytest.approx(0, abs=1e-6)


def test_the_clip_that_is_unlike_the_reference_is_named_first(folders, capsys):
    write_tone(folders / "generated" / "odd.wav", 200.0, amplitude=0.9)
    songs = evaluate(folders)["samples"]["song_distance_logmel"]
    assert max(songs, key=songs.get) == "odd.wav"
    assert "farthest clips by fad_logmel: odd.wav" in " ".join(capsys.readouterr().out.split())


def test_broken_clips_among_100_change_nothing_and_are_counted(tmp_path, capsys):
    for side in ("generated", "reference"):
        (tmp_path / side).mkdir()
    for index in range(100):
        write_noise(tmp_path / "generated" / f"{index:03d}.wav", 0.1, seconds=1.0)
    for index in range(5):
        write_noise(tmp_path / "reference" / f"{index}.wav", 0.3)
    clean = evaluate(tmp_path)
    for side in ("generated", "reference"):
        (tmp_path / side / "0-empty.wav").touch()
        (tmp_path / side / "0-garbage.wav").write_bytes(b"not audio")
        soundfile.write(tmp_path / side / "0-silent.wav", torch.zeros(RATE).numpy(), RATE)
        soundfile.write(tmp_path / side / "050-nan.wav", torch.full((RATE,), math.nan).numpy(), RATE, subtype="FLOAT")
        write_noise(tmp_path / side / "999-short.wav", 0.1, seconds=0.5)
    broken = evaluate(tmp_path)
    capsys.readouterr()
    again = evaluate(tmp_path)
    assert broken["samples"] == clean["samples"]
    for key, metric in clean["metrics"].items():
        assert {**broken["metrics"][key], "dropped": None} == {**metric, "dropped": None}
        assert metric["dropped"] == {"generated": {}, "reference": {}}
        for side in ("generated", "reference"):
            assert sum(broken["metrics"][key]["dropped"][side].values()) == 5
            assert broken["metrics"][key]["dropped"][side]["silent"] == 1
    for side in ("generated", "reference"):
        messages = [one for reason in broken["facts"]["dropped"]["logmel"][side].values() for one in reason]
        for name in ("empty", "garbage", "silent", "nan", "short"):
            assert sum(f"{side}/" in one and name in one for one in messages) == 1
    assert again["metrics"] == broken["metrics"]
    assert again["facts"] == broken["facts"]
    printed = "".join(capsys.readouterr().out.split())
    for name in ("empty", "garbage", "silent", "nan", "short"):
        assert f"{name}.wav" in printed


def test_the_reference_is_embedded_once(folders, monkeypatch):
    heard = []
    forward = LogMelEmbedding.forward
    monkeypatch.setattr(LogMelEmbedding, "forward", lambda self, x: heard.append(1) or forward(self, x))
    first = evaluate(folders)
    assert len(heard) == 6
    assert evaluate(folders)["metrics"] == first["metrics"]
    assert len(heard) == 9
    write_noise(folders / "reference" / "2.wav", 0.2)
    assert evaluate(folders)["metrics"] != first["metrics"]
    assert len(heard) == 15


def test_a_manifest_and_its_splits(folders):
    rows = [
        {"id": str(i), "audio": f"reference/{i}.wav", "caption": "noise", "split": "test" if i else "train"}
        for i in range(3)
    ]
    (folders / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    words = ("--generated", folders / "m.jsonl", "--reference", folders / "m.jsonl", "--out", folders / "m.json")
    run(*words)
    assert row_of(folders / "m.json")["metrics"]["fad_logmel"]["n_reference"] == 3
    run(*words, "--split", "test", "--generated-split", "train")
    fad = row_of(folders / "m.json")["metrics"]["fad_logmel"]
    assert (fad["n_generated"], fad["n_reference"]) == (1, 2)


def test_texts_are_compared_with_the_files_they_belong_to(tones):
    (tones / "p.txt").write_text("a high tone\n" * 3 + "a low tone\n" * 3)
    words = ("--embedding", tones / "tone.yaml", "--prompts", tones / "p.txt")
    row = evaluate(tones, *words)
    right, single = row["metrics"]["text_correlation_tone"], row["samples"]["text_similarity_tone"]
    assert sum(single.values()) / len(single) == pytest.approx(right["value"], abs=1e-6)
    assert right["value"] == pytest.approx(1, abs=0.01)
    assert right["details"]["shuffled"] == pytest.approx(0, abs=0.01)  # Clips of one text are no wrong pair.
    (tones / "p.txt").write_text("a low tone\n" * 3 + "a high tone\n" * 3)
    wrong = evaluate(tones, *words)
    assert wrong["metrics"]["text_correlation_tone"]["value"] == pytest.approx(0, abs=0.01)
    assert max(wrong["samples"]["text_similarity_tone"].values()) < 0.02


def test_several_embeddings_at_once(tones):
    results = evaluate(tones, "--embedding", tones / "tone.yaml", "--embedding", "logmel")
    assert set(results["metrics"]) == {"fad_tone", "kad_tone", "fad_logmel", "kad_logmel"}
    assert set(results["facts"]["dropped"]) == {"tone", "logmel"}


def test_copies_of_training_music_are_found(tones):
    (tones / "training").mkdir()
    write_tone(tones / "training" / "a.wav", 320.0)
    words = ("--embedding", tones / "tone.yaml", "--training", tones / "training")
    metrics = evaluate(tones, *words)["metrics"]
    assert metrics["sim_aa@95_tone"]["value"] == pytest.approx(0.5)
    write_tone(tones / "training" / "b.wav", 4100.0)
    assert evaluate(tones, *words)["metrics"]["sim_aa@95_tone"]["value"] == pytest.approx(1)


def test_statistics_of_fadtk_can_be_the_reference(folders):
    frames = clip_frames(folders / "reference").flatten(0, 1)
    np.savez(folders / "stats.npz", **{"logmel.mu": frames.mean(0), "logmel.cov": torch.cov(frames.T)})
    run("--generated", folders / "generated", "--reference", folders / "stats.npz", "--out", folders / "n.json")
    results = row_of(folders / "n.json")
    expected = evaluate(folders)["metrics"]["fad_logmel"]
    assert results["metrics"]["fad_logmel"]["value"] == pytest.approx(expected["value"], rel=1e-6)
    assert results["metrics"]["fad_logmel"]["n_reference"] is None
    assert "kad_logmel" not in results["metrics"]
    assert results["facts"]["reference_model"] == {"logmel": "logmel"}


def test_statistics_of_another_model_are_refused_before_any_work(folders, monkeypatch):
    monkeypatch.setattr("melody_cm.evaluation.folders._Evaluation.run", lambda self: pytest.fail("work was begun"))
    width = LogMelEmbedding().width
    np.savez(folders / "other.npz", **{"vggish.mu": np.zeros(width), "vggish.cov": np.eye(width)})
    for reference in ("other.npz", "other.npz:vggish"):
        words = ("--generated", folders / "generated", "--reference", folders / reference)
        with pytest.raises(ValueError, match=r"statistics of vggish, none.* of the embedding logmel"):
            run(*words, "--out", folders / "n.json")


def test_a_place_without_room_or_rights_is_found_before_the_work(folders, monkeypatch):
    def refused(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("melody_cm.data.jobs.tempfile.TemporaryFile", refused)
    monkeypatch.setattr(judge, "load_embedding", lambda name: pytest.fail("work was begun"))
    with pytest.raises(OSError, match=r"no files can be written there \(Read-only file system\)"):
        evaluate(folders)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_found_before_the_work(folders, monkeypatch):
    full = Path("/dev/full")
    monkeypatch.setattr("melody_cm.data.jobs.tempfile.TemporaryFile", lambda **_: full.open("wb", buffering=0))
    monkeypatch.setattr(judge, "load_embedding", lambda name: pytest.fail("work was begun"))
    with pytest.raises(OSError, match=r"no files can be written there \(No space left on device\)"):
        evaluate(folders)


def test_against_older_results(tones, capsys):
    words = ("--embedding", tones / "tone.yaml")
    evaluate(tones, *words, out="old.json")
    (tones / "generated" / "low0.wav").unlink()
    evaluate(tones, *words, "--against", tones / "old.json", out="new.json")
    printed = " ".join(capsys.readouterr().out.split())
    assert "6 against 5 generated clips" in printed
    assert "verdict" in printed
    assert "…" not in printed


def test_unlike_results_are_refused_before_any_work(tones, monkeypatch):
    evaluate(tones, "--embedding", tones / "tone.yaml", out="old.json")
    monkeypatch.setattr("melody_cm.evaluation.folders.evaluate_clips", pytest.fail)
    old = ("--against", tones / "old.json")
    write_preset(tones / "other.yaml", version="2")
    with pytest.raises(ValueError, match="embeddings differ in version '1' against '2'"):
        evaluate(tones, *old, "--embedding", tones / "other.yaml")
    with pytest.raises(ValueError, match="older results know only the embedding tone"):
        evaluate(tones, *old)
    write_tone(tones / "reference" / "low0.wav", 200.0)
    with pytest.raises(ValueError, match="their references differ"):
        evaluate(tones, *old, "--embedding", tones / "tone.yaml")
    (tones / "old.json").write_text('{"schema_version": 1, "metrics": {}}')
    with pytest.raises(ValueError, match="results of schema 1"):
        evaluate(tones, *old)
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file"):
        evaluate(tones, "--against", tones / "none.json")


def test_what_is_missing_is_named(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no embedding 'vgish'; presets: .*logmel"):
        evaluate(folders, "--embedding", "vgish")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate(folders, generated="nowhere")
    (folders / "none").mkdir()
    with pytest.raises(ValueError, match="none: no sound files"):
        evaluate(folders, generated="none")
    (folders / "none" / "a.wav").touch()
    with pytest.raises(ValueError, match=r"none of the 1 generated clips is usable; the first: .*a\.wav"):
        evaluate(folders, generated="none")
    assert not (folders / "r.json").exists()
    (folders / "preset.yaml").write_text("class_path: melody_cm.diffusion.LinearAngles\n")
    with pytest.raises(ValueError, match="is no AudioEmbedding"):
        evaluate(folders, "--embedding", folders / "preset.yaml")


def test_words_that_do_not_belong_together_are_refused(folders, capsys):
    (folders / "p.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match="prompts need an embedding of texts or tags too, not only logmel"):
        evaluate(folders, "--prompts", folders / "p.txt")
    with pytest.raises(ValueError, match="memorization check needs a trained embedding"):
        evaluate(folders, "--training", folders / "reference")
    with pytest.raises(ValueError, match="two embeddings of one name"):
        evaluate(folders, "--embedding", "logmel", "--embedding", "logmel")
    with pytest.raises(ValueError, match="takes no path after a colon"):
        evaluate(folders, "--embedding", "logmel:weights")
    with pytest.raises(ValueError, match="takes no --generated, --prompts"):
        run("--selftest", "--generated", folders, "--prompts", folders / "p.txt")
    assert main(["evaluate", "--reference", str(folders)]) == 2
    assert "evaluate needs --generated, --out" in capsys.readouterr().err


class PathEmbedding(ToneEmbedding):
    """Its first argument is a path, like that of every embedding with weights."""

    def __init__(self, weights: str = "", bands: int = 2) -> None:
        super().__init__()
        self.weights, self.bands = weights, bands


def test_what_follows_the_colon_is_the_first_argument(tmp_path, monkeypatch):
    kind = f"{PathEmbedding.__module__}.{PathEmbedding.__qualname__}"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"class_path": kind, "init_args": {"bands": 3}}))
    monkeypatch.setattr(judge, "shipped", lambda name: tmp_path)
    embedding = load_embedding("mine:C:/weights.pth")
    assert (embedding.weights, embedding.bands) == ("C:/weights.pth", 3)
    assert load_embedding("mine").weights == ""
    with pytest.raises(ValueError, match="or it is empty"):
        load_embedding("mine:")


def test_stopping_leaves_nothing_half_written(folders, monkeypatch):
    def stop(self, waveform):
        raise KeyboardInterrupt

    monkeypatch.setattr(LogMelEmbedding, "forward", stop)
    words = ["evaluate", "--generated", folders / "generated", "--reference", folders / "reference"]
    before = sorted(folders.rglob("*"))
    assert main([str(word) for word in [*words, "--out", folders / "r.json"]]) == 130
    assert sorted(folders.rglob("*")) == before


def test_a_trained_judge_is_the_second_where_it_is_installed(monkeypatch):
    assert judge.default_embeddings(9) == ["logmel"]
    monkeypatch.setattr("melody_cm.evaluation.judge.find_spec", lambda package: package == "musicnn")
    assert judge.default_embeddings(9) == ["logmel", "musicnn"]
    assert judge.default_embeddings(1) == ["logmel"]


def test_names_that_are_not_utf8_are_judged_and_written(folders):
    generated = os.fsencode(folders / "generated")
    os.rename(generated + b"/0.wav", generated + b"/\xe9t\xe9.wav")
    with open(generated + b"/\xe9mpty.wav", "wb"):
        pass
    row = evaluate(folders)
    assert set(row["samples"]["song_distance_logmel"]) == {"1.wav", "2.wav", "\\xe9t\\xe9.wav"}
    (told,) = row["facts"]["dropped"]["logmel"]["generated"]["empty"]
    assert "\\xe9mpty.wav" in told
