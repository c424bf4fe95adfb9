"""Trainings that are stopped, resumed, refused and spoilt, in this process and in real ones, alone and in twos."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_recipe import toy_recipe

import melody_cm
from melody_cm.configuration import shipped
from melody_cm.runs import Interrupted
from melody_cm.storage import load_network

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "melody-cm")
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]
STAGE = "toy/1_autoencoder"
STOPPED = "--trainer.callbacks=[{class_path: toys.SignalAt, init_args: {step: 30}}]"
# Feature matching turns rounding into steps of full size, as L1 does: two processes would part after many of them.
SMOOTH = {"weight": 0.01, "feature_matching_weight": 0.0}
RECIPE = toy_recipe(max_steps=80, val_check_interval=40, log_every_n_steps=2)
RECIPE["model"]["init_args"]["adversary"] = {
    "class_path": "melody_cm.training.Adversary",
    "init_args": {
        "discriminator": {"class_path": "toys.ToyDiscriminator"},
        "loss": {"class_path": "melody_cm.losses.LeastSquaresLoss", "init_args": SMOOTH},
        "optimization": {"learning_rate": 0.001},
        "start": 0.2,
    },
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder with one toy recipe, and Python that finds the toys; a training in it runs in this process."""
    root = tmp_path_factory.mktemp("house")
    (root / "recipes/toy").mkdir(parents=True)
    (root / f"recipes/{STAGE}.yaml").write_text(yaml.safe_dump(RECIPE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "tests" / "training")
        patch.setenv("MELODY_CM_CACHE", str(root / "cache"))
        yield root


def train(house, run, *overrides, retrain=False):
    return melody_cm.train(house / "recipes/toy", house / "runs" / run, "tiny", overrides=overrides, retrain=retrain)


def command(house, run, *arguments):
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "training")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [COMMAND, "train", "recipes/toy", "--size", "tiny", "--run", run, *arguments]
    done = subprocess.run(words, cwd=house, env=environment, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


def weights(house, run):
    return load_file(house / "runs" / run / STAGE / "export/autoencoder/model.safetensors")


def assert_bit_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(house):
    train(house, "undisturbed")
    return weights(house, "undisturbed")


def test_a_training_stopped_by_sigterm_resumes_to_bit_equal_weights(house, undisturbed, capsys):
    with pytest.raises(Interrupted):
        train(house, "stopped", STOPPED)
    assert "interrupted; saved" in capsys.readouterr().out
    stage = house / "runs/stopped" / STAGE
    assert (stage / "last.ckpt").is_file()
    assert not (stage / "finished.json").exists()
    assert not list(stage.glob(".*part")), "nothing half-written is left"
    train(house, "stopped")
    assert_bit_equal(weights(house, "stopped"), undisturbed)


def test_two_processes_stopped_together_resume_and_equal_one(house, undisturbed):
    code, output = command(house, "two", *TWO, STOPPED)
    assert code == 130, output
    assert "interrupted; saved" in output
    code, output = command(house, "two", *TWO)
    assert code == 0, output
    for name, value in weights(house, "two").items():
        torch.testing.assert_close(value, undisturbed[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["melody/5_audio_vae_gan", "musiccm/1_mel_vae"])
def test_a_real_stage_in_two_processes_equals_one(tmp_path, stage):
    corpus = ["--data.corpus.num_clips", "24", "--trainer.max_steps", "3", "--trainer.limit_val_batches", "0"]
    exported = []
    for run, arguments in (("one", []), ("two", TWO)):
        words = [COMMAND, "train", str(shipped(f"recipes/{stage}.yaml")), "--size", "tiny", "--runs", str(tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MELODY_CM_CACHE": str(tmp_path / "cache")}
        words += ["--run", run, *corpus, *arguments]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        exported.append(load_network(tmp_path / run / stage / "export/autoencoder").state_dict())
    one, two = (torch.cat([value.flatten() for value in weights.values()]) for weights in exported)
    assert len(one) > 10_000, "not the weights"
    # AdamW turns the rounding of a gradient near zero into a visible step of a single weight, so all are judged
    # together: other clips or noise would move a typical weight by about the learning rate, 1e-4.
    assert not torch.equal(one, two), "bit-equal sums in other orders? then nothing was compared"
    assert float((one - two).abs().mean()) < 3e-6


def test_a_finished_stage_is_skipped_and_a_changed_one_is_refused(house, undisturbed, capsys):
    train(house, "undisturbed")
    assert capsys.readouterr().out.strip() == f"{STAGE}: finished before, skipped"
    with pytest.raises(ValueError, match=r"max_steps: 80 -> 5.* Use train with --retrain"):
        train(house, "undisturbed", "--trainer.max_steps=5")


def test_retraining_replaces_a_stage_only_when_it_succeeds(house, undisturbed):
    spoilt = "--model.reconstruction_loss.class_path=toys.Raises"
    with pytest.raises(ValueError, match="raised on purpose"):
        train(house, "undisturbed", spoilt, retrain=True)
    assert_bit_equal(weights(house, "undisturbed"), undisturbed)
    train(house, "undisturbed", "--trainer.max_steps=6", retrain=True)
    assert not torch.equal(weights(house, "undisturbed")["decoder.bias"], undisturbed["decoder.bias"])
    stage = house / "runs/undisturbed/toy"
    assert [path.name for path in stage.iterdir()] == ["1_autoencoder"], "the old stage is gone when the new is done"


def test_a_network_that_is_not_finite_is_not_exported(house):
    with pytest.raises(ValueError, match="learning_rate"):
        train(house, "spoilt", "--trainer.max_steps=2", "--model.optimization.learning_rate=1e30")
    assert not (house / f"runs/spoilt/{STAGE}/finished.json").exists()
