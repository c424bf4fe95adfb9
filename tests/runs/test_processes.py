"""Trainings that are stopped, resumed, refused and spoilt, in this process and in real ones, alone and in twos."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.run
import yaml
from safetensors.torch import load_file
from toy_recipe import toy_recipe
from two_steps import STAGES

import melody_cm
from melody_cm.runs import Interrupted

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "melody-cm")
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]
STAGE = "toy/1_autoencoder"
STOPPED = "--trainer.callbacks=[{class_path: toys.SignalAt, init_args: {step: 15}}]"
# Feature matching turns rounding into steps of full size, as L1 does: two processes would part after many of them.
SMOOTH = {"weight": 0.01, "feature_matching_weight": 0.0}
RECIPE = toy_recipe(max_steps=40, val_check_interval=20, log_every_n_steps=2)
RECIPE["model"]["init_args"]["adversary"] = {
    "class_path": "melody_cm.training.Adversary",
    "init_args": {
        "discriminator": {"class_path": "toys.ToyDiscriminator"},
        "loss": {"class_path": "melody_cm.losses.LeastSquaresLoss", "init_args": SMOOTH},
        "optimization": {"learning_rate": 0.001},
        "start": 0.2,
    },
}

FAILS_IN_VALIDATION = """
import os
from lightning.pytorch import Callback

class Fails(Callback):
    def on_validation_batch_start(self, trainer, *_):
        if trainer.global_step and os.environ["RANK"] == "1":
            raise RuntimeError("this is the reason")
"""


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


def command(house, run, *arguments, launcher=()):
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "training")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [*launcher, COMMAND, "train", "recipes/toy", "--size", "tiny", "--run", run, *arguments]
    done = subprocess.run(words, cwd=house, env=environment, capture_output=True, text=True, timeout=280)
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


@pytest.mark.parametrize("more", [[], pytest.param(TWO, marks=pytest.mark.slow)], ids=["one", "two"])
def test_two_processes_stopped_together_leave_what_one_or_two_go_on_with(house, undisturbed, more):
    run = f"two_{len(more)}"
    code, output = command(house, run, *TWO, STOPPED)
    assert code == 130, output
    assert "interrupted; saved" in output
    if more:
        code, output = command(house, run, *more)
        assert code == 0, output
    else:
        train(house, run)
    for name, value in weights(house, run).items():
        torch.testing.assert_close(value, undisturbed[name], rtol=1e-4, atol=1e-5)


TORCHRUN = re.findall(r"`(torchrun [^`]*)`", (REPOSITORY / "docs/processes.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", TORCHRUN)
def test_torchrun_leaves_to_us_what_is_ours(line):
    parsed = torch.distributed.run.parse_args(shlex.split(line.replace("node-rank N", "node-rank 1"))[1:])
    assert parsed.training_script == "melody-cm"
    assert parsed.training_script_args[0] == "train"
    assert "--run" in parsed.training_script_args


@pytest.mark.slow
def test_a_training_of_torchrun_equals_one_process(house, undisturbed):
    (line,) = [line for line in TORCHRUN if "--nnodes" not in line]
    launcher = shlex.split(line.replace("--nproc-per-node 8", "--nproc-per-node 2").partition("melody-cm")[0])
    code, output = command(
        house, "torchrun", *TWO, launcher=[str(Path(sys.executable).parent / launcher[0]), *launcher[1:]]
    )
    assert code == 0, output
    assert output.count("after 40 steps") == 1
    for name, value in weights(house, "torchrun").items():
        torch.testing.assert_close(value, undisturbed[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_stage_in_two_processes_equals_one(tiny_run):
    words = [sys.executable, str(REPOSITORY / "tests/faults/one_and_two.py"), str(tiny_run)]
    environment = {**os.environ, "MELODY_CM_CACHE": str(tiny_run.parents[1] / "cache")}
    environment.pop("MELODY_CM_RUN", None)
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len({stage for stage, *_ in rows}) == len(STAGES)
    # AdamW turns the rounding of a gradient near zero into a visible step of a single weight, so that all weights of a
    # network are judged together. Other clips, noise or statistics would move them by about the learning rate, 1e-4.
    assert not [row for row in rows if float(row[3]) > (1e-5 if "discriminator" in row[1] else 1e-6)]


def test_a_finished_stage_is_skipped_and_a_changed_one_is_refused(house, undisturbed, capsys):
    train(house, "undisturbed")
    assert capsys.readouterr().out.strip() == f"{STAGE}: finished before, skipped"
    with pytest.raises(ValueError, match=r"max_steps: 40 -> 5.* Use train with --retrain"):
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


def finished(house, run):
    return json.loads((house / "runs" / run / STAGE / "finished.json").read_text())


def test_what_the_time_ends_is_not_finished_and_goes_on_to_bit_equal_weights(house, undisturbed, capsys):
    with pytest.raises(Interrupted):
        train(house, "late", "--trainer.max_time=00:00:00:00")
    assert "interrupted; saved after 1 steps. The same command goes on" in capsys.readouterr().out
    assert not (house / f"runs/late/{STAGE}/finished.json").exists()
    train(house, "late")
    assert_bit_equal(weights(house, "late"), undisturbed)


@pytest.mark.parametrize("limit", ["soon", "00:00:00:-1", "-5", "{seconds: -1}"])
def test_a_time_that_is_none_is_refused_before_anything_is_trained(house, limit):
    with pytest.raises(ValueError, match=r"trainer.max_time is .*; give it as DD:HH:MM:SS"):
        train(house, "timeless", f"--trainer.max_time={limit}")
    assert not (house / f"runs/timeless/{STAGE}").exists()


def test_what_early_stopping_ends_is_finished_and_says_so(house, capsys):
    arguments = "{monitor: val/loss, patience: 1, mode: max}"
    stopping = f"{{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {arguments}}}"
    words = ["--trainer.val_check_interval=10", f"--trainer.callbacks=[{stopping}]"]
    train(house, "early", *words)
    outcome = finished(house, "early")["outcome"]
    assert (outcome["steps"], outcome["planned_steps"], outcome["ended_by"]) == (20, 40, "EarlyStopping")
    assert "after 20 of 40 steps, ended by EarlyStopping" in capsys.readouterr().out
    train(house, "early", *words)
    said = "finished before after 20 of 40 steps, ended by EarlyStopping (--trainer.max_steps above 40 goes on)"
    assert said in capsys.readouterr().out


def watching(name, **arguments):
    callback = {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}
    return f"--trainer.callbacks={json.dumps([callback])}"


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
def test_a_monitor_that_nothing_logs_is_refused_before_the_first_step(house, name):
    message = rf"^{name}: monitor 'val/los' is not logged here; known are, nearest first, val/loss, .*val/\w+"
    with pytest.raises(ValueError, match=message):
        train(house, "blind", watching(name, monitor="val/los"))
    folder = house / "runs/blind" / STAGE
    assert not [*folder.glob("*.ckpt"), *folder.rglob("metrics.csv")]


@pytest.mark.parametrize("monitor", ["val/squared_error", "train/kl"])
def test_any_term_of_a_loss_can_be_monitored_which_changes_no_weight(house, undisturbed, monitor):
    train(house, monitor.replace("/", "_"), watching("EarlyStopping", monitor=monitor, patience=99))
    assert_bit_equal(weights(house, monitor.replace("/", "_")), undisturbed)


def test_a_finished_stage_is_given_more_steps_without_retrain(house, undisturbed):
    plain = "--model.adversary=null"  # An adversary joins at a share of all steps.
    train(house, "whole", plain)
    train(house, "longer", plain, "--trainer.max_steps=20")
    train(house, "longer", plain)
    assert finished(house, "longer")["outcome"]["steps"] == 40
    assert_bit_equal(weights(house, "longer"), weights(house, "whole"))


def test_a_stage_is_ended_where_it_stands_and_kept(house, capsys):
    with pytest.raises(Interrupted):
        train(house, "ended", STOPPED)
    folder = house / "runs/ended" / STAGE
    melody_cm.finish(folder)
    outcome = finished(house, "ended")["outcome"]
    assert (outcome["steps"], outcome["planned_steps"]) == (15, 40)
    assert "after 15 of 40 steps, ended by `melody-cm finish`" in capsys.readouterr().out
    train(house, "ended")
    told = "finished before after 15 of 40 steps, ended by `melody-cm finish` (--trainer.max_steps above 40 goes on)"
    assert f"{told}, skipped" in capsys.readouterr().out
    kept = weights(house, "ended")
    shutil.rmtree(folder / "export")
    with pytest.raises(ValueError, match=r"export is not what was written .*melody-cm finish"):
        train(house, "ended")
    melody_cm.finish(folder)
    assert_bit_equal(weights(house, "ended"), kept)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_bit_in_an_export_is_not_skipped_as_finished(house, name):
    if not (house / "runs/flipped").exists():
        train(house, "flipped", "--trainer.max_steps=3")
    file = house / f"runs/flipped/{STAGE}/export/autoencoder/{name}"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ValueError, match=r"melody-cm finish"):
        train(house, "flipped", "--trainer.max_steps=3")
    file.write_bytes(whole)
    train(house, "flipped", "--trainer.max_steps=3")


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("cut", "foreign", "a folder")]


@pytest.mark.parametrize("kind", ["empty", "not finite", *SLOW])
def test_retrain_starts_anew_whatever_unfinished_checkpoint_lies_there(house, undisturbed, kind):
    run = f"broken_{kind.replace(' ', '_')}"
    with pytest.raises(Interrupted):
        train(house, run, STOPPED)
    file = house / "runs" / run / STAGE / "last.ckpt"
    whole = torch.load(file, weights_only=True)
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "a folder":
        file.unlink()
        file.mkdir()
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif kind == "foreign":
        whole["configuration"] = {**whole["configuration"], "seed_everything": 7}
        torch.save(whole, file)
    else:
        whole["state_dict"]["trained.autoencoder.decoder.bias"].fill_(float("nan"))
        torch.save(whole, file)
    with pytest.raises(ValueError, match=r"last\.ckpt is .*--retrain"):
        train(house, run)
    train(house, run, retrain=True)
    assert_bit_equal(weights(house, run), undisturbed)


@pytest.mark.parametrize(
    "option",
    ["fast_dev_run=true", "limit_train_batches=3", "max_epochs=2", "overfit_batches=2", "min_steps=3", "barebones=true",
     "default_root_dir=/tmp/x", "reload_dataloaders_every_n_epochs=1",
     "callbacks=[{class_path: lightning.pytorch.callbacks.Timer}]", "log_every_n_steps=0", "val_check_interval=0",
     "val_check_interval=0.5", "accumulate_grad_batches=0", "gradient_clip_val=-1",
     "plugins=[{class_path: lightning.pytorch.plugins.io.AsyncCheckpointIO}]"],
)  # fmt: skip
def test_an_option_that_is_not_honoured_is_refused_by_name(house, option):
    why = "(set by melody-cm|use trainer.max_time|.* is too low; give|.* is not one of melody_cm's)"
    with pytest.raises(ValueError, match=rf"trainer.{option.split('=')[0]}.*: {why}"):
        train(house, "refused", f"--trainer.{option}")
    assert not (house / "runs/refused").exists()


def test_a_folder_that_is_removed_during_a_training_is_named(house, monkeypatch):
    def removed(*_, **__):
        shutil.rmtree(house / "runs/removed/toy")
        raise ValueError("you tried to log -1")  # TensorBoard's.

    monkeypatch.setattr("melody_cm.runs.training.Trainer.fit", removed)
    with pytest.raises(OSError, match="1_autoencoder was removed while it was trained"):
        train(house, "removed")


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_one_process_that_is_not_the_first_of_several_is_refused(house, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=rf"{name} is 1, but trainer is set for one process; unset it"):
        train(house, "left_over", "--trainer.max_steps=2")


def test_what_lightning_refuses_is_one_line_that_names_the_stage(house):
    with pytest.raises(ValueError, match=f"{STAGE}: .*gradient accumulation is not supported for manual optimization"):
        train(house, "lightning", "--trainer.accumulate_grad_batches=3")


def test_a_logger_of_the_recipe_stands_beside_ours(house):
    logger = f"{{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {{save_dir: {house / 'mine'}}}}}"
    train(house, "logged", "--trainer.max_steps=3", f"--trainer.logger={logger}")
    assert list((house / "mine").rglob("metrics.csv"))
    assert list((house / f"runs/logged/{STAGE}/logs").rglob("metrics.csv"))


def test_a_stage_that_an_older_version_finished_is_read(house, undisturbed, capsys):
    file = house / f"runs/undisturbed_copy/{STAGE}/finished.json"
    shutil.copytree(house / "runs/undisturbed", house / "runs/undisturbed_copy")
    state = json.loads(file.read_text())
    state.pop("exports")
    for name in ("planned_steps", "ended_by", "skipped_steps"):
        state["outcome"].pop(name)
    file.write_text(json.dumps(state))
    train(
        house, "undisturbed_copy", *([] if state["config"]["trainer"]["max_steps"] == 40 else ["--trainer.max_steps=6"])
    )
    assert "finished before, skipped" in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_that_fails_ends_the_other_which_says_so(house):
    (house / "mine.py").write_text(FAILS_IN_VALIDATION)
    # As torchrun starts one process on each of two nodes.
    nodes = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    nodes |= {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "training"), str(house)])
    words = [COMMAND, "train", "recipes/toy", "--size", "tiny", "--run", "fails"]
    words += ["--trainer.callbacks=[{class_path: mine.Fails}]"]
    words += [*TWO[2:], "--trainer.devices", "1", "--trainer.num_nodes", "2", "--trainer.val_check_interval", "2"]
    both = [
        subprocess.Popen(
            words, cwd=house, env={**os.environ, **nodes, "PYTHONPATH": paths, "RANK": rank, "GROUP_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    assert "another process of this training ended; its message says why" in said[0], said[0]
    assert "this is the reason" in said[1]
