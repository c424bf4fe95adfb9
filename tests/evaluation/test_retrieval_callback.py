"""Recall while a joint embedding trains, by the real command: two processes learn and find what one does."""

import pytest
import torch
from callback_toys import build_house, callback, diffusion_recipe, train_in_two_processes
from safetensors.torch import load_file

from melody_cm.cli.main import main
from melody_cm.evaluation.retrieval import recall
from melody_cm.runs import Setting, build_data
from melody_cm.storage import load_network, read_json

ARGUMENTS = ["train", "recipes/toy", "--size", "tiny"]
TOWERS = {
    "sample_rate": 8000, "window_seconds": 1.024, "width": 8, "num_mels": 32, "n_fft": 256, "hop_length": 128,
    "patch_stride": 16, "audio_layers": 1, "audio_width": 16, "audio_heads": 2, "text_layers": 1, "text_width": 16,
    "text_heads": 2, "max_text_bytes": 200,
}  # fmt: skip


def joint_recipe(callbacks, steps=8):
    arguments = {
        "joint_embedding": {"class_path": "melody_cm.encoders.TwoTowerEmbedding", "init_args": TOWERS},
        "optimization": {"learning_rate": 0.003},
        "ema_decay": 0.5,
    }
    model = {"class_path": "melody_cm.training.JointEmbeddingTraining", "init_args": arguments}
    return {**diffusion_recipe(callbacks, steps, limit_val_batches=0), "model": model}


RECALL = callback("RetrievalCallback", every_n_steps=4, batch_size=2)
BEST = {"class_path": "melody_cm.training.BestCheckpoint", "init_args": {"monitor": "val/recall", "mode": "max"}}


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MELODY_CM_RUN", "")
    return tmp_path


@pytest.mark.slow
def test_two_processes_learn_and_find_what_one_does(house):
    build_house(house, joint_recipe([RECALL, BEST]))
    assert main([*ARGUMENTS, "--run", "one"]) == 0
    done = train_in_two_processes(house, ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (house / "runs" / name / "toy/1_stage" for name in ("one", "two"))
    first, second = (load_file(stage / "export/joint_embedding/model.safetensors") for stage in (one, two))
    for name, value in first.items():
        if name.endswith(("k_proj.bias", "key.bias")):  # Attention does not depend on it: its gradient is rounding.
            continue
        torch.testing.assert_close(second[name], value, atol=3e-4, rtol=1e-2, msg=lambda text, name=name: name + text)
    for step in (4, 8):
        path = f"evaluations/step_{step:06d}/recall.json"
        assert read_json(two / path) == pytest.approx(read_json(one / path), abs=1e-6)
    assert read_json(one / "evaluations/step_000008/recall.json")["n"] == 6


def test_the_numbers_are_those_of_the_exported_embedding_on_the_whole_split(house):
    build_house(house, joint_recipe([RECALL, BEST], steps=3))
    assert main([*ARGUMENTS, "--run", "one"]) == 0
    stage = house / "runs/one/toy/1_stage"
    network = load_network(stage / "export/joint_embedding")
    data = build_data(Setting("tiny").compose(house / "recipes/toy/1_stage.yaml").config["data"])
    whole = next(data.batches("valid", 100))
    assert len(whole) == 6
    with torch.no_grad():
        audio, text = network.embed_audio(whole.waveform), network.embed_text(whole.captions)
    groups = torch.tensor([whole.captions.index(caption) for caption in whole.captions])
    expected = recall(text, audio, groups, [1, 5])
    found = read_json(stage / "evaluations/step_000003/recall.json")
    assert [found["recall_at_1_text_to_audio"], found["recall_at_5_text_to_audio"]] == pytest.approx(expected)
    measured, result = read_json(stage / "finished.json")["outcome"]["measured"], found
    assert measured["val/recall"] == pytest.approx(result["recall_at_5_text_to_audio"])
    assert measured["val/recall_chance"] == pytest.approx(result["chance_at_5"])
    for k in (1, 5, 10):
        for way in ("text_to_audio", "audio_to_text"):
            assert measured[f"val/recall_at_{k}_{way}"] == pytest.approx(result[f"recall_at_{k}_{way}"])
    assert read_json(stage / "best.json")["monitor"] == "val/recall"
    assert "val/recall_at_10_audio_to_text" in (stage / "logs/version_0/metrics.csv").read_text()


@pytest.mark.slow
def test_the_first_clips_of_a_large_split_can_be_enough(house):
    few = callback("RetrievalCallback", every_n_steps=9, num_clips=3, batch_size=2)
    build_house(house, joint_recipe([few], steps=1))
    assert main([*ARGUMENTS, "--run", "one"]) == 0
    assert read_json(house / "runs/one/toy/1_stage/evaluations/step_000001/recall.json")["n"] == 3


def test_another_stage_is_refused_before_it_trains(house, capsys):
    build_house(house, diffusion_recipe([RECALL]))
    assert main([*ARGUMENTS, "--run", "one"]) != 0
    assert "RetrievalCallback cannot evaluate LatentDiffusion: it trains no joint embedding" in capsys.readouterr().err
