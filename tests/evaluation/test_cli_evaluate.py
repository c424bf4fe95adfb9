"""`melody-cm evaluate` on folders of audio, with broken files among them."""

import argparse
import json

import pytest
import soundfile
import torch

from melody_cm.cli import evaluate as verb
from melody_cm.evaluation import FrechetDistance
from melody_cm.evaluation.embeddings import LogMelEmbedding


def run(*words):
    parser = argparse.ArgumentParser()
    verb.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["evaluate", *(str(word) for word in words)])
    return arguments.handler(arguments)


@pytest.fixture
def folders(tmp_path):
    for side, scale in (("generated", 0.1), ("reference", 0.3)):
        (tmp_path / side).mkdir()
        for index in range(3):
            noise = (scale * torch.randn(2 * 16000)).clamp(-1, 1)
            soundfile.write(tmp_path / side / f"{index}.wav", noise.numpy(), 16000, subtype="FLOAT")
    return tmp_path


def evaluate(folder, *words):
    assert (
        run(
            "--generated", folder / "generated", "--reference", folder / "reference", "--out", folder / "r.json", *words
        )
        == 0
    )
    return json.loads((folder / "r.json").read_text())


def test_the_distance_between_two_folders(folders, capsys):
    result = evaluate(folders)["metrics"]["fad_logmel"]
    metric = FrechetDistance(LogMelEmbedding().identity)
    for side in ("generated", "reference"):
        clips = [soundfile.read(file, dtype="float32")[0] for file in sorted((folders / side).iterdir())]
        waveforms = torch.stack([torch.from_numpy(clip) for clip in clips])[:, None]
        metric.update(LogMelEmbedding()(waveforms), real=side == "reference")
    assert result["value"] == pytest.approx(metric.compute()["value"], rel=1e-6)
    assert (result["n_generated"], result["n_reference"], result["too_few"]) == (3, 3, True)
    assert "too few: fewer than 64 clips" in capsys.readouterr().out


def test_a_folder_against_itself_is_at_distance_0(folders):
    words = ("--generated", folders / "reference", "--reference", folders / "reference", "--out", folders / "r.json")
    run(*words)
    assert json.loads((folders / "r.json").read_text())["metrics"]["fad_logmel"]["value"] == pytest.approx(0, abs=1e-6)


def test_broken_clips_change_nothing_and_are_reported(folders, capsys):
    clean = evaluate(folders)["metrics"]["fad_logmel"]
    broken = folders / "generated"
    (broken / "empty.wav").touch()
    (broken / "garbage.wav").write_bytes(b"not audio")
    soundfile.write(broken / "silent.wav", torch.zeros(32000).numpy(), 16000)
    soundfile.write(broken / "short.wav", 0.1 * torch.randn(8000).numpy(), 16000)
    soundfile.write(broken / "nan.wav", torch.full((32000,), float("nan")).numpy(), 16000, subtype="FLOAT")
    result = evaluate(folders)
    assert result["metrics"]["fad_logmel"] == clean
    assert len(result["metadata"]["problems"]) == 5
    printed = capsys.readouterr().out
    for name in ("empty", "garbage", "silent", "short", "nan"):
        assert f"{name}.wav" in printed


def test_a_manifest_can_be_the_reference(folders):
    rows = [{"id": str(i), "audio": f"reference/{i}.wav", "caption": "noise"} for i in range(3)]
    (folders / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    run("--generated", folders / "generated", "--reference", folders / "m.jsonl", "--out", folders / "other.json")
    other = json.loads((folders / "other.json").read_text())["metrics"]["fad_logmel"]
    assert other == evaluate(folders)["metrics"]["fad_logmel"]


def test_what_is_missing_is_named(folders):
    with pytest.raises(FileNotFoundError, match="no embedding 'vgish'; presets: logmel"):
        evaluate(folders, "--embedding", "vgish")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run("--generated", folders / "nowhere", "--reference", folders / "reference", "--out", folders / "r.json")
    (folders / "none").mkdir()
    with pytest.raises(ValueError, match="none of the 0 clips"):
        run("--generated", folders / "none", "--reference", folders / "reference", "--out", folders / "r.json")
    (folders / "preset.yaml").write_text("class_path: melody_cm.diffusion.LinearAngles\n")
    with pytest.raises(ValueError, match="describes no AudioEmbedding"):
        evaluate(folders, "--embedding", folders / "preset.yaml")
