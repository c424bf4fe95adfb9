"""What fitting a tokenizer tells, and joint embeddings that cannot be trained, by the real recipes at tiny size."""

import json

import numpy as np
import pytest
import soundfile

from melody_cm.runs import Run, Setting, plan_stages
from melody_cm.storage import read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The joint embedding, and the tokenizers of sound and of prompts, after two steps each."""
    root = tmp_path_factory.mktemp("fitting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_CACHE", str(root / "cache"))
        patch.setenv("MELODY_CM_RUN", "")
        names = ["shared/1_joint_embedding", "melody/2_semantic_tokenizer", "melody/3_joint_tokenizer"]
        recipes = [recipe for recipe in plan_stages(names, Setting("tiny")) if recipe.name in names]
        for recipe in recipes:
            recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 60
            key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
            recipe.config["trainer"] |= {key: 3, "val_check_interval": 3, "log_every_n_steps": 1}
        Run(root / "run").train(recipes)
    return root / "run"


def report(run, stage):
    return read_json(run / stage / "finished.json")["outcome"]["measured"]


def test_prompt_tokens_report_error_and_use_by_level_for_sound_and_text(run):
    told = report(run, "melody/3_joint_tokenizer")
    assert set(told) == {"fitted", "held_back", "held_back_text"}
    for group in told.values():
        assert {name: len(levels) for name, levels in group.items()} == {
            "quantization_error": 4, "perplexity": 4, "used": 4,
        }  # fmt: skip
    error = told["fitted"]["quantization_error"]
    assert error == sorted(error, reverse=True)
    assert error[-1] < error[0] < 1
    assert error[-1] == read_json(run / "melody/3_joint_tokenizer/finished.json")["outcome"]["loss_after"]
    assert all(1 <= level <= 32 for group in told.values() for level in group["perplexity"])


def test_semantic_tokens_report_use_and_stability(run):
    told = report(run, "melody/2_semantic_tokenizer")
    assert set(told) == {"fitted", "held_back", "stability"}
    assert len(told["fitted"]["quantization_error"]) == 1
    assert told["stability"]["cluster_perplexity"] == pytest.approx(told["fitted"]["perplexity"][0], rel=1e-6)
    assert told["stability"]["cluster_share"] == pytest.approx(told["fitted"]["used"][0])
    assert all(0 <= told["stability"][name] <= 1 for name in ("nmi_other_seed", "nmi_shifted", "nmi_noisy"))


def test_the_numbers_are_logged_too(run):
    header = (run / "melody/3_joint_tokenizer/logs/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"fitted/quantization_error_4", "held_back/perplexity_1", "held_back_text/used_2"} <= set(header)


def test_clips_without_captions_are_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MELODY_CM_RUN", "")
    rows = []
    for number, split in enumerate(["train", "train", "valid", "test"]):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.sin(np.arange(48000) * 0.1 * (number + 1)), 16000)
        caption = "" if number == 1 else "a tone"
        rows.append({"id": str(number), "audio": f"{number}.wav", "caption": caption, "split": split})
    (tmp_path / "music.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    setting = Setting("tiny", corpus=str(tmp_path / "music.jsonl"))
    recipes = plan_stages(["shared/1_joint_embedding"], setting)
    with pytest.raises(ValueError, match=r"1 of 2 'train' clips have no caption, the first .*music\.jsonl.*2"):
        Run(tmp_path / "run").train(recipes)
