"""The real command line in real processes: stopped and resumed, alone and in twos, it leaves the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_recipe import toy_recipe

from melody_cm.storage import load_network

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [str(Path(sys.executable).parent / "melody-cm"), "train", "recipes/toy", "--size", "tiny"]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]
# Feature matching turns rounding into steps of full size, as L1 does: two processes would part after 700 of them.
SMOOTH = {"weight": 0.01, "feature_matching_weight": 0.0}
RECIPE = toy_recipe(max_steps=700, val_check_interval=100, log_every_n_steps=2)
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
    """A folder with one toy recipe, in which the command can run."""
    root = tmp_path_factory.mktemp("house")
    files = {
        "recipes/toy/1_autoencoder.yaml": RECIPE,
        "configs/sizes/tiny/toy/1_autoencoder.yaml": {"cost": {"seconds_per_step": 0.01}},
        "configs/machines/cpu.yaml": yaml.safe_load((REPOSITORY / "configs/machines/cpu.yaml").read_text()),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(yaml.safe_dump(content))
    return root


def start(house, run, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "training")]),
        "MELODY_CM_CACHE": str(house / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [*COMMAND, "--run", run, *arguments]
    return subprocess.Popen(
        command, cwd=house, env=environment, start_new_session=True, text=True, stdout=-1, stderr=subprocess.STDOUT
    )


def finish(process, timeout=120):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def stop_midway(house, run, send, *arguments):
    """Start a training, `send` the signal in its middle, and see it save and leave quickly."""
    process = start(house, run, *arguments)
    stage = house / "runs" / run / "toy/1_autoencoder"
    deadline = time.monotonic() + 90
    while not list(stage.glob("logs/*/metrics.csv")):  # Written after a hundred logged steps.
        assert process.poll() is None, finish(process)[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    send(process)
    code, output = finish(process, timeout=30)
    assert code == 130, output
    assert "interrupted; saved" in output
    assert (stage / "last.ckpt").is_file()
    assert not (stage / "finished.json").exists(), "it was stopped too late for this test to mean anything"
    assert not list(stage.glob(".*part")), "nothing half-written is left"


def weights(house, run):
    return load_file(house / "runs" / run / "toy/1_autoencoder/export/autoencoder/model.safetensors")


def assert_bit_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(house):
    code, output = finish(start(house, "undisturbed"))
    assert code == 0, output
    assert "toy/1_autoencoder: loss" in output
    return weights(house, "undisturbed")


def test_a_training_stopped_by_sigterm_resumes_to_bit_equal_weights(house, undisturbed):
    stop_midway(house, "stopped", lambda process: process.send_signal(signal.SIGTERM))
    code, output = finish(start(house, "stopped"))
    assert code == 0, output
    assert_bit_equal(weights(house, "stopped"), undisturbed)


def test_two_processes_equal_one_and_resume_when_the_whole_group_is_stopped(house, undisturbed):
    code, output = finish(start(house, "two", *TWO))
    assert code == 0, output
    for name, value in weights(house, "two").items():
        torch.testing.assert_close(value, undisturbed[name], rtol=1e-4, atol=1e-5)
    stop_midway(house, "two-stopped", lambda process: os.killpg(process.pid, signal.SIGTERM), *TWO)
    code, output = finish(start(house, "two-stopped", *TWO))
    assert code == 0, output
    assert_bit_equal(weights(house, "two-stopped"), weights(house, "two"))


@pytest.mark.parametrize("stage", ["melody/5_audio_vae_gan", "musiccm/1_mel_vae"])
def test_a_real_stage_in_two_processes_equals_one(tmp_path, stage):
    corpus = ["--data.corpus.num_clips", "24", "--trainer.max_steps", "3", "--trainer.limit_val_batches", "0"]
    exported = []
    for run, arguments in (("one", []), ("two", TWO)):
        command = [COMMAND[0], "train", f"recipes/{stage}.yaml", "--size", "tiny", "--runs", str(tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MELODY_CM_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [*command, "--run", run, *corpus, *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        exported.append(load_network(tmp_path / run / stage / "export/autoencoder").state_dict())
    one, two = (torch.cat([value.flatten() for value in weights.values()]) for weights in exported)
    assert len(one) > 10_000, "not the weights"
    # AdamW turns the rounding of a gradient near zero into a visible step of a single weight, so all are judged
    # together: other clips or noise would move a typical weight by about the learning rate, 1e-4.
    assert not torch.equal(one, two), "bit-equal sums in other orders? then nothing was compared"
    assert float((one - two).abs().mean()) < 3e-6


def test_a_finished_stage_is_skipped_and_a_changed_one_is_refused(house, undisturbed):
    code, output = finish(start(house, "undisturbed"))
    assert (code, output.strip()) == (0, "toy/1_autoencoder: finished before, skipped")
    code, output = finish(start(house, "undisturbed", "--trainer.max_steps", "5"))
    assert code == 2
    assert "max_steps: 700 -> 5" in output
    assert "--retrain" in output
    assert "Traceback" not in output


def test_retraining_that_fails_keeps_the_finished_stage(house, undisturbed):
    before = weights(house, "undisturbed")
    code, output = finish(start(house, "undisturbed", "--trainer.max_steps", "abc", "--retrain"))
    assert code == 2, output
    assert_bit_equal(weights(house, "undisturbed"), before)
    code, output = finish(start(house, "undisturbed", "--trainer.max_steps", "20", "--retrain"))
    assert code == 0, output
    assert not torch.equal(weights(house, "undisturbed")["decoder.bias"], before["decoder.bias"])
    stage = house / "runs/undisturbed/toy"
    assert [path.name for path in stage.iterdir()] == ["1_autoencoder"], (
        "the old stage is gone when the new one is done"
    )


def test_a_network_that_is_not_finite_is_not_exported(house):
    arguments = ["--trainer.max_steps", "2", "--model.optimization.learning_rate", "1e30"]
    code, output = finish(start(house, "spoilt", *arguments))
    assert code == 2, output
    assert "learning_rate" in output
    assert not (house / "runs/spoilt/toy/1_autoencoder/finished.json").exists()
