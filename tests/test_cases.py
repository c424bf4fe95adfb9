"""Every case of ../shared/cases by the command that its README gives, with what it says is right.

Those that need a trained system have toys in its place: outputs_overwritten in tests/pipelines/test_cli_generate.py and
results_cannot_be_written in tests/evaluation/test_cli_evaluate.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import melody_cm
from melody_cm.cli.main import main
from melody_cm.data import FolderCorpus, audio_info, read_audio
from melody_cm.data.manifest import open_corpus
from melody_cm.evaluation.clips import find_clips, read_clip_prompts

REPOSITORY = Path(__file__).resolve().parents[1]
CASES = next((each / "shared/cases" for each in REPOSITORY.parents if (each / "shared/cases").is_dir()), Path("none"))
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="there are no cases at ../shared/cases")
TRAIN = ["train", "recipes/shared/1_joint_embedding.yaml", "--size", "tiny", "--corpus", "../corpus"]
MOUNTS = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can mount a small disk"
)


@pytest.fixture
def case(request, tmp_path, monkeypatch):
    """A copy of the case that the test is named after, beside one of the corpus; commands run in it."""
    name = request.node.originalname.removeprefix("test_")
    for each in (name, "corpus"):
        shutil.copytree(CASES / each, tmp_path / each, copy_function=shutil.copyfile)
    for folder in tmp_path.rglob("*/"):
        folder.chmod(0o755)
    monkeypatch.chdir(tmp_path / name)
    return tmp_path / name


@pytest.fixture
def command(capsys):
    """Runs a command; returns its exit code and all that it printed."""

    def command(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return command


def processes(*all_words, each=None):
    """Run lists of words at once, with `each` in their environments; returns (exit code, what it printed) of each."""
    base = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(words, env=base | more, stdout=-1, stderr=subprocess.STDOUT, text=True)
        for words, more in zip(all_words, each or [{}] * len(all_words), strict=True)
    ]
    said = [process.communicate(timeout=1500)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


MELODY_CM = [sys.executable, "-m", "melody_cm.cli.main"]


def test_byte_order_mark(case, command):
    (clip,) = FolderCorpus("folder").clips()
    assert clip.captions == ["a calm piece"]
    assert "problems: 0" in command("data", "check", "manifest", "--strict")[1]
    assert melody_cm.read_prompts(Path("prompts.txt")) == ["slow piano"]
    Path("prompts.txt").write_bytes(b"calm\ncaf\xe9\n")
    generate = ("generate", "none", "--prompts", "prompts.txt", "--seconds", 1, "--out", "g")
    code, said = command(*generate)
    assert (code, "prompts.txt: not UTF-8 text (line 2" in said) == (2, True)


@MOUNTS
@pytest.mark.slow
def test_disk_full(case):
    words = [*MELODY_CM, *TRAIN, "--run", "x", "--runs", "small", "--trainer.max_steps", "40"]
    mount = 'mkdir small && mount -t tmpfs -o size=6000k tmpfs small && exec "$@"'
    ((code, said),) = processes(["unshare", "-m", "bash", "-c", mount, "bash", *words])
    line = said.strip().splitlines()[-1]
    assert (code, line.startswith("melody-cm: no space left for small/x/shared/1_joint_embedding/")) == (2, True), said
    assert "MiB of it could be written; free some space, or use another disk" in line


def test_fadtk_other_model(case, command):
    for reference, said in (
        ("one_other_model.npz", "holds statistics of some-other-model, none of the embedding logmel"),
        ("several_models.npz", "holds statistics of vggish, encodec-emb, none of the embedding logmel"),
        ("several_models.npz:vggish", "none as vggish of the embedding logmel"),
    ):
        words = ("--reference", reference, "--embedding", "logmel", "--out", "results.json")
        code, line = command("evaluate", "--generated", "../corpus", *words)
        assert code == 2
        assert said in line.strip().splitlines()[-1]
        assert not Path("results.json").exists()


def test_float_and_phase(case, command):
    said = command("data", "check", ".")[1]
    assert "float_in_int16_range.wav: samples up to 9.83e+03; sound lies in -1 to 1, so scale the file to that" in said
    assert "antiphase.wav: channels cancel in mono; the loudest one is taken" in said
    assert "silent" not in said
    assert read_audio(Path("antiphase.wav"), 0.0, None, 16000).abs().max() > 0.1
    assert read_audio(Path("one_side_only.wav"), 0.0, None, 16000).abs().max() > 0.1


def test_mp3_without_info(case, command):
    said = command("data", "check", ".", "--strict")[1]
    assert "problems: 0" in said
    for file in Path().glob("*.mp3"):
        assert audio_info(file).seconds == pytest.approx(12.04, abs=0.06), file
        assert len(read_audio(file, 0.0, None, 16000)) / 16000 == pytest.approx(12.04, abs=0.06), file


def test_names_not_utf8(case, command):
    shutil.copy("songs/plain.wav", b"songs/\xe9t\xe9.wav")
    code, said = command("data", "check", "songs", "--strict")
    assert (code, "2 clips" in said, "problems: 0" in said) == (0, True, True), said
    code, said = command("evaluate", "--generated", "songs", "--reference", "../corpus", "--out", "results.json")
    assert code == 0, said
    assert json.loads(Path("results.json").read_text())


@MOUNTS
@pytest.mark.slow
def test_no_writable_home(monkeypatch):
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *MELODY_CM]
    evaluate = [
        "evaluate",
        "--generated",
        "corpus",
        "--reference",
        "corpus",
        "--embedding",
        "logmel",
        "--out",
        "r.json",
    ]
    synthetic = ["train", "recipes/melody/5_audio_vae_gan.yaml", "--size", "tiny", "--run", "x", "--dry-run"]
    home = {"HOME": "/nonexistent", "MPLCONFIGDIR": "/nonexistent"}
    for name in ("MELODY_CM_CACHE", "NUMBA_CACHE_DIR", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory() as folder:  # Nobody may enter those of pytest.
        shutil.copytree(CASES / "corpus", Path(folder) / "corpus", copy_function=shutil.copyfile)
        for place in (folder, f"{folder}/corpus"):
            os.chmod(place, 0o777)
        monkeypatch.chdir(folder)
        done = processes([*nobody, *evaluate, "--out", "r.json"], [*nobody, *synthetic], each=[home, home])
        assert Path("r.json").is_file()
    for code, said in done:
        assert code == 0, said
        assert "melody-cm: /nonexistent cannot be written; caches go to /" in said


def test_prompt_order_1000(case):
    found = find_clips(Path("generated"))
    prompts = read_clip_prompts(Path("prompts.txt"), found)
    assert prompts == {"100_low_drone.wav": "low drone", "1000_fast_drums.wav": "fast drums"}


@MOUNTS
@pytest.mark.slow
def test_shm_full_hangs(case):
    small = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    # Of 5 s, not 10 as in the README: the clips of this corpus have 2.6 s.
    data = ["--data.num_workers", "8", "--data.seconds", "5", "--data.batch_size", "16"]
    words = [*MELODY_CM, *TRAIN, "--run", "x", *data]
    ((code, said),) = processes(["unshare", "-m", "bash", "-c", small, "bash", *words])
    line = said.strip().splitlines()[-1]
    assert code == 2, said
    assert "/dev/shm has 64 MiB free" in line
    assert "--shm-size" in line
    assert "data.num_workers lower" in line


def test_silent_beginnings(case, command):
    assert "problems: 0" in command("data", "check", ".", "--strict")[1]
    words = ["--corpus", ".", "--run", "x", "--trainer.max_steps", 2, "--trainer.val_check_interval", 2]
    code, said = command(*TRAIN, *words)
    assert code == 0, said
    assert "bad clip" not in said
    assert "held-back music" in said


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["two_processes.yaml", "two_nodes.yaml"])
def test_slurm_two_tasks(case, machine):
    nodes = machine == "two_nodes.yaml"
    words = [*MELODY_CM, *TRAIN, "--run", "x", "--trainer.max_steps", "4", "--machine", machine]
    job = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost"}
    job |= {"SLURM_NTASKS_PER_NODE": str(2 - nodes), "SLURM_NNODES": str(1 + nodes), "MASTER_ADDR": "127.0.0.1"}
    tasks = [
        job | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(0 if nodes else rank), "SLURM_NODEID": str(rank * nodes)}
        for rank in (0, 1)
    ]
    (code, first), (other, second) = processes(words, words, each=tasks)
    assert (code, other) == (0, 0), first + second
    assert "after 4 steps" in first
    assert "after 4 steps" not in second


def test_sound_not_seen(case, command):
    Path("songs/linked").symlink_to("../store")
    said = command("data", "check", "songs")[1]
    assert sum(map(int, re.findall(r"(\d+) clips", said))) == 4, "a.wav, b.aiff, c.oga, linked/e.wav"
    assert "left out: 1 .m4a, 1 hidden folder" in said
    assert "problems: 0" in said


def test_stopped_early_called_finished(case, command):
    stage = Path("runs/x/shared/1_joint_embedding")
    late = [*TRAIN, "--run", "x", "--trainer.max_steps", 4000]
    for seconds in ("01", "00"):
        code, said = command(*late, "--trainer.max_time", f"00:00:00:{seconds}")
        assert (code, "interrupted; saved after" in said) == (130, True), said
        assert not (stage / "finished.json").exists()
    early = ["--run", "y", "--machine", "early_stopping_machine.yaml", "--trainer.val_check_interval", 2]
    code, said = command(*TRAIN, *early, "--trainer.max_steps", 2000, "--model.optimization.learning_rate", 1e-30)
    outcome = json.loads(Path("runs/y/shared/1_joint_embedding/finished.json").read_text())["outcome"]
    assert outcome["ended_by"] == "EarlyStopping"
    assert f"after {outcome['steps']} of 2000 steps, ended by EarlyStopping" in said
    assert outcome["steps"] < 100
    for option in ("fast_dev_run true", "max_epochs 2", "limit_train_batches 3"):
        name, value = option.split()
        code, said = command(*TRAIN, "--run", "z", f"--trainer.{name}", value)
        assert (code, f"trainer.{name}" in said) == (2, True), said
    assert not Path("runs/z").exists()


@pytest.mark.parametrize("option", ["default_root_dir X", "max_epochs 2", "barebones true"])
def test_trainer_options_unused(case, command, option):
    name, value = option.split()
    code, said = command(*TRAIN, "--run", "x", f"--trainer.{name}", value)
    assert code == 2
    assert f"trainer.{name}" in said
    assert "set by melody-cm" in said
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """A saved MusicCM of size tiny."""
    folder = tmp_path_factory.mktemp("exported") / "system"
    melody_cm.Run(tiny_run).pipeline("musiccm").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("class_path_idlelib_starts_a_program", "idlelib"),
        ("class_path_imports_module_first", "evilmod"),
        ("class_path_null", "config.json"),
        ("joint_embedding_audio_layers_10000000", "joint_embedding"),
        ("joint_embedding_from_the_hub", "joint_embedding"),
        ("networks_null", "config.json"),
    ],
)
def test_hostile(case, command, exported, name, message):
    shutil.copytree(exported, "system")
    shutil.copytree(f"exports/{name}", "system", dirs_exist_ok=True)
    os.chdir("system")
    code, said = command("generate", ".", "--prompt", "a", "--seconds", 1, "--out", "g")
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert "--debug shows the traceback" not in said
    assert not {"evilmod", "idlelib.idle"} & set(sys.modules)


@pytest.mark.parametrize("path", sorted((CASES / "hostile/manifests").glob("*.jsonl")), ids=lambda path: path.stem)
def test_hostile_manifests(case_of_hostile, command, path):
    code, said = command("data", "check", f"manifests/{path.name}", "--strict")
    assert code in (0, 2)
    assert "--debug shows the traceback" not in said
    assert not {sign for sign in said if not (sign.isprintable() or sign == "\n")}, "a terminal obeys these"
    if not path.stem.startswith("escape"):
        assert code == 2
        assert f"{path.name}" in said
    assert " clips " in said, "the other rows go on"


@pytest.fixture
def case_of_hostile(tmp_path, monkeypatch):
    shutil.copytree(CASES / "hostile", tmp_path / "hostile", copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path / "hostile")


def test_hostile_captions(case_of_hostile, command):
    code, said = command("data", "check", "surrogate_caption", "--strict")
    assert (code, "row 3" in said) == (2, True), said
    with pytest.raises(ValueError, match="row 3"):
        open_corpus("surrogate_caption").clips()


@pytest.mark.parametrize("path", sorted((CASES / "hostile/yaml").glob("*.yaml")), ids=lambda path: path.stem)
def test_hostile_yaml(case_of_hostile, command, path):
    option = ("--corpus", "--machine")[path.stem.startswith("overlay")]
    words = [word for word in TRAIN if word not in ("--corpus", "../corpus")]
    code, said = command(*words, option, f"yaml/{path.name}", "--run", "x", "--dry-run")
    assert code == 2 or path.stem == "overlay_calls_os_abort", said
    if code:
        assert path.name in said
        assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(("case_file", "state"), [("checkpoints/empty.ckpt", "last.ckpt"),
                                                  ("state/finished_null.json", "finished.json")])  # fmt: skip
def test_hostile_state(case_of_hostile, command, case_file, state):
    shutil.copytree(CASES / "corpus", "../corpus", copy_function=shutil.copyfile)
    words = [*TRAIN, "--run", "x", "--trainer.max_steps", 2]
    assert command(*words)[0] == 0
    stage = Path("runs/x/shared/1_joint_embedding")
    if state == "last.ckpt":
        (stage / "finished.json").unlink()
    shutil.copyfile(case_file, stage / state)
    code, said = command(*words)
    assert code == 2
    assert f"1_joint_embedding/{state}" in said.strip().splitlines()[-1]
    code, said = command(*words, "--retrain")
    assert (code, "after 2 steps" in said) == (0, True), said


def test_hostile_audio(case_of_hostile, command):
    said = command("data", "check", "audio")[1]
    assert "trunc_a_0.25.aiff" in said
    assert "truncated" in said
