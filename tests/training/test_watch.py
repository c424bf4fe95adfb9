"""What is watched beside the loss, in the numbers that loggers are given."""

import csv

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from melody_cm.runs import Run, Setting, plan
from melody_cm.training.watch import Pace, gradient_norm

FEW = [
    *("--data.corpus.num_clips=16", "--data.batch_size=4", "--trainer.max_steps=4", "--trainer.val_check_interval=4"),
    *("--trainer.log_every_n_steps=2", "--trainer.callbacks=null"),
]


def test_the_gradient_norm_is_that_of_all_gradients_together():
    network = nn.Linear(3, 2)
    network.weight.grad, network.bias.grad = torch.full((2, 3), 2.0), torch.tensor([3.0, 4.0])
    assert gradient_norm(network.parameters()) == pytest.approx((6 * 4 + 9 + 16) ** 0.5)


def rows(folder, name):
    """What one metric was at each step, by the CSV files of all resumes."""
    files = sorted(folder.glob("logs/*/metrics.csv"))
    read = [row for file in files for row in csv.DictReader(file.open())]
    return {int(row["step"]): float(row[name]) for row in read if row.get(name)}


@pytest.fixture(scope="module")
def watched(tiny_run, tmp_path_factory):
    """Four steps of a plain and of an adversarial stage; the first was resumed after two."""
    run = Run(tmp_path_factory.mktemp("runs") / "watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELODY_CM_CACHE", str(tiny_run.parents[1] / "cache"))
        patch.setenv("MELODY_CM_RUN", str(run.path))
        run.train(plan("shared/1_joint_embedding", Setting("tiny", overrides=[*FEW, "--trainer.max_steps=2"])))
        run.train(plan("shared/1_joint_embedding", Setting("tiny", overrides=FEW)))
        opposed = [*FEW, "--model.adversary=configs/adversary/mel_patches.yaml", "--model.adversary.start=0.0"]
        run.train(plan("musiccm/1_mel_vae", Setting("tiny", overrides=opposed)))
    return run


@pytest.mark.parametrize("stage", ["shared/1_joint_embedding", "musiccm/1_mel_vae"])
def test_rate_gradient_speed_and_memory_are_logged_at_the_logged_steps(stage, watched):
    folder = watched.folder(stage)
    names = ["learning_rate", "train/gradient_norm", "speed/clips_a_second", "speed/data_wait", "memory/peak_gib"]
    names += ["learning_rate_discriminator"] if "vae" in stage else []
    for name in names:
        assert sorted(rows(folder, name)) == [1, 3], name
        assert all(value > 0 for value in rows(folder, name).values()), name
    assert max(rows(folder, "speed/data_wait").values()) < 1
    assert 0.1 < rows(folder, "memory/peak_gib")[3] < 20


def test_a_resumed_training_goes_on_in_the_same_curve_and_its_recipe_is_there(watched):
    board = EventAccumulator(str(watched.folder("shared/1_joint_embedding") / "tensorboard"))
    board.Reload()
    for name in ("train/loss", "speed/clips_a_second"):  # Files of one second are read in order of their names.
        assert sorted(event.step for event in board.Scalars(name)) == [1, 3]
    assert "_hparams_/session_start_info" in board.summary_metadata


def test_waiting_for_data_is_told_from_work(monkeypatch):
    """Steps of 1 s, of which the batch was waited for 0.75 s, and a validation that counts for nothing."""
    now = [5.0]
    monkeypatch.setattr("melody_cm.training.watch.time.monotonic", lambda: now[0])
    pace = Pace()
    for repeat in range(2):
        for step in range(4):
            now[0] += 0.75
            pace.batch_begins()
            now[0] += 0.25
            pace.batch_ends(6)
            if step == 2:
                now[0] += 100.0
                pace.leave_out(100.0)
        values = pace.values()
        assert values["speed/data_wait"] == pytest.approx(0.75), repeat
        assert values["speed/clips_a_second"] == pytest.approx(6.0), repeat
