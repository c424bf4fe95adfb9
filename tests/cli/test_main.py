"""What a user sees when something is wrong: one clear line and exit code 2, no traceback."""

import importlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from melody_cm.cli.main import main, place_caches

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train recipes/melody --run x --size huge", ["unknown size 'huge'", "tiny, cpu, small, paper"]),
        ("train recipes/nowhere --run x --size tiny", ["no recipe recipes/nowhere", "melody-cm recipes"]),
        ("train recipes/melody/9_none.yaml --run x --size tiny", ["recipes/melody/9_none.yaml"]),
        ("train recipes/melody --run x --size tiny --machine abacus", ["abacus"]),
        ("train recipes/melody --run x --size tiny --trainer.max_stepz 3", ["command line", "'max_steps'"]),
        (
            "train recipes/melody/6_dual_path_diffusion.yaml --run x --size tiny --model.denoiser.widht 3",
            ["command line", "widht", "width"],
        ),
        ("train recipes/melody --run x --size tiny --corpus nowhere", ["nowhere"]),
        ("compare recipes/compare/none.yaml --out {tmp}/o", ["recipes/compare/none.yaml"]),
        (
            "compare recipes/compare/tiny.yaml --runs {tmp} --out {tmp}/o",
            ["is not finished", "melody-cm train recipes/"],
        ),
        ("export {tmp}/melody {tmp}/out", ["is not finished", "--run"]),
        ("export demo:musiccm {tmp}/out", ["demo:musiccm is no system of a run", "RUNS/RUN/SYSTEM"]),
        ("export {tmp}/symphony {tmp}/out", ["symphony", "musiccm_teacher"]),
        ("generate {tmp}/none --prompt a --seconds 1 --out {tmp}/o", ["none"]),
        ("data check {tmp}/none", ["none"]),
        ("train recipes/musiccm/1_mel_vae.yaml --run ../x --size tiny", ["'../x'", "cannot name a run"]),
        ("data encode recipes/melody --run ../x --size tiny", ["'../x'", "cannot name a run"]),
        ("train recipes/musiccm/1_mel_vae.yaml --run x --size tiny --machine cup", ["'cup'", "cpu, ddp, gpu"]),
        (
            "train recipes/musiccm/1_mel_vae.yaml --runs {tmp} --run x --size tiny --trainer.max_steps 0",
            ["max_steps is 0"],
        ),
        (
            "train recipes/musiccm/1_mel_vae.yaml --runs {tmp} --run x --size tiny --trainer.max_steps abc",
            ["trainer.max_steps", "abc"],
        ),
        (
            "train recipes/musiccm/1_mel_vae.yaml --runs {tmp} --run x --size tiny --model.kl_weight [1",
            ["model.kl_weight"],
        ),
        (
            "train recipes/musiccm/1_mel_vae.yaml --runs {tmp} --run x --size tiny --data.sample_rate 22050",
            ["works at 16000 Hz but the data has 22050 Hz"],
        ),
        (
            "train recipes/melody/6_dual_path_diffusion.yaml --run x --size tiny --model.schedule.foo 1",
            ["schedule", "foo", "takes no arguments"],
        ),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(command, words, tmp_path, capsys):
    assert main(command.format(tmp=tmp_path).split()) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train recipes/melody --run x", "melody-cm train: --size is missing: tiny (about a minute a stage"),
        ("genrate x", "melody-cm: VERB 'genrate' is none of train, finish, .*; the nearest is 'generate'"),
        ("data impot x", "melody-cm data: COMMAND 'impot' is none of import, .*; the nearest is 'import'"),
        ("generate x --stpes 3 --out o", "melody-cm: generate knows no argument '--stpes'; the nearest is '--steps'"),
        ("generate --prompt a", "melody-cm generate: SYSTEM is missing: a folder of .*; --out is missing: folder"),
        ("", "melody-cm: VERB is missing: see --help"),
    ],
)
def test_a_mistyped_or_missing_word_is_told_in_one_line(command, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert re.match(message.replace("(", r"\("), error), error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("verb", ["train", "ablate", "reproduce"])
def test_what_must_be_given_is_not_in_brackets(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    usage = capsys.readouterr().out.partition("options:")[0]
    assert "--size SIZE" in usage
    assert "[--size SIZE]" not in usage


def test_the_shell_can_ask_what_comes_next(tmp_path):
    pytest.importorskip("argcomplete")

    def completed(line):
        environment = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": " "}
        environment |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"), "PATH": os.environ["PATH"]}
        subprocess.run([sys.executable, "-m", "melody_cm.cli.main"], env=environment, check=True)
        return (tmp_path / "out").read_text().split()

    assert completed("melody-cm gen") == ["generate"]
    assert completed("melody-cm generate --inp") == ["--inpaint"]


def compare_recipe(tmp_path, **changes):
    content = yaml.safe_load((REPOSITORY / "recipes/compare/tiny.yaml").read_text()) | changes
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "tset"}, "reference is 'tset', neither a split (train, valid, test) nor there as a path"),
        ({"seeds": 3}, "seeds: 3 is no valid value: it should be a valid list"),
        ({"seconds": "x"}, "seconds: 'x' is no valid value: it should be a valid number"),
        ({"systems": {"melody": {"num_steps": [1]}}}, "systems.melody needs a pipeline, a source or a baseline"),
        ({"sedes": [1]}, "sedes: unknown key; the nearest valid key is 'seeds'"),
    ],
)
def test_a_compare_recipe_is_checked_before_anything_is_trained(tmp_path, capsys, changes, message):
    path = compare_recipe(tmp_path, **changes)
    out = str(tmp_path / "out")
    assert main(["compare", str(path), "--train-missing", "--runs", str(tmp_path), "--out", out]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "recipe").exists()


def test_a_seed_can_be_overridden(tmp_path, capsys):
    command = ["train", "recipes/musiccm/1_mel_vae.yaml", "--size", "tiny", "--run", "x", "--runs", str(tmp_path)]
    assert main([*command, "--seed_everything", "5", "--dry-run"]) == 0


def test_caches_go_elsewhere_where_there_is_no_home_to_write(tmp_path, monkeypatch, capsys):
    own = {name: value for name, value in os.environ.items() if name not in ("MELODY_CM_CACHE", "NUMBA_CACHE_DIR")}
    monkeypatch.setattr("os.environ", own | {"HOME": str(tmp_path / "none"), "HF_HOME": "mine"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place_caches()
    place_caches()
    said = capsys.readouterr().err
    named = r"\(MELODY_CM_CACHE, NUMBA_CACHE_DIR\)"
    assert re.fullmatch(rf"melody-cm: \S+none cannot be written; caches go to \S+ {named}\n", said)
    assert os.environ["HF_HOME"] == "mine"
    assert Path(os.environ["MELODY_CM_CACHE"]).parent.is_dir()


def test_a_user_without_a_home_has_caches(tmp_path, monkeypatch, capsys):
    """As in a container that runs under a number that no user has."""
    own = {name: value for name, value in os.environ.items() if name not in ("HOME", "MELODY_CM_CACHE")}
    monkeypatch.setattr("os.environ", own)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["recipes"]) == 0
    assert re.search("melody-cm: ~ cannot be written; caches go to ", capsys.readouterr().err)
    assert Path(os.environ["MELODY_CM_CACHE"]).is_relative_to(tmp_path)


def test_where_nothing_can_be_written_one_line_says_so(tmp_path, monkeypatch, capsys):
    """As in a container whose disk is read-only: what needs no cache works."""
    own = {name: value for name, value in os.environ.items() if name != "MELODY_CM_CACHE"}
    monkeypatch.setattr("os.environ", own | {"HOME": str(tmp_path / "none")})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no folder"))
    assert main(["recipes"]) == 0
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"melody-cm: neither \S+none nor a temporary folder can be written; set MELODY_CM_CACHE\n", said
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")
def test_large_blocks_that_are_freed_are_used_again():
    code = (
        "import resource, numpy; from melody_cm.cli.main import keep_memory\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(): [numpy.ones(1 << 23) for _ in range(5)]\n"
        "work(); before = faults(); work(); usual = faults() - before\n"
        "keep_memory(); work(); before = faults(); work(); print(usual, faults() - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    usual, kept = map(int, out.split())
    assert kept < usual / 10


def test_debug_shows_the_traceback():
    with pytest.raises(FileNotFoundError):
        main(["--debug", "train", "recipes/nowhere", "--run", "x", "--size", "tiny"])


def test_a_stage_without_what_it_needs_names_the_recipe(tmp_path, capsys):
    command = ["train", "recipes/musiccm/3_teacher.yaml", "--size", "tiny", "--run", "x", "--runs", str(tmp_path)]
    assert main(command) == 2
    assert "melody-cm train recipes/musiccm/1_mel_vae.yaml" in capsys.readouterr().err


@pytest.fixture
def memory_of_one_stage(monkeypatch):
    """It is counted in runs/test_training_memory.py; here of the first stage alone, as it takes seconds of each."""
    module = importlib.import_module("melody_cm.runs.plan")
    count, first = module.training_memory, "shared/1_joint_embedding"
    monkeypatch.setattr(module, "training_memory", lambda *of: count(*of) if of[1].name == first else None)


@pytest.mark.usefixtures("memory_of_one_stage")
def test_dry_run_prints_the_plan_and_does_nothing(tmp_path, capsys):
    assert main(["train", "recipes/melody", "--size", "paper", "--run", "x", "--runs", str(tmp_path), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    for word in ("shared/1_joint_embedding", "429.97 M", "296.6", "GiB", "not measured"):
        assert word in plan
    assert "7_consistency_distillation" not in plan, "which only MeLoDy-CM needs"
    assert list(tmp_path.iterdir()) == []
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in plan.splitlines() if "│" in line]
    *stages, total = rows
    assert total[:2] == ["together", f"{len(stages)} to do"]
    assert int(total[4]) == sum(int(stage[4]) for stage in stages)
    millions = [float(stage[2].removesuffix(" M").replace("-", "0")) for stage in stages]
    assert float(total[2].removesuffix(" M")) == pytest.approx(sum(millions), abs=0.05)
    assert {stage[5] for stage in rows} == {"not measured"}


@pytest.mark.usefixtures("memory_of_one_stage")
def test_dry_runs_of_comparisons_and_ablations_say_what_is_made_and_do_nothing(tmp_path, capsys):
    where = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(["compare", "recipes/compare/tiny.yaml", *where, "--train-missing"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "melody/6_dual_path_diffusion" in said
    assert "4 systems (steps): melody (5, 10)" in said
    assert re.search(r"plan: 13 of 13 stages are to be trained, time on one core: 1\d\.\d min;", said)
    assert "7 rows x 4 prompts x 4 seeds = 112 clips of 2.56 s, 4.8 minutes of music" in said
    assert main(["ablate", "recipes/ablations/network", "--size", "tiny", "--seeds", "0,1", *where]) == 0
    said = capsys.readouterr().out
    assert "unet2d, seed 1" in said
    assert "3 recipe(s) x 2 seed(s), each measured on 64 clips" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--trust-module", "mine", "recipes"), ("recipes", "--trust-module=mine")])
def test_a_trusted_module_is_named_before_or_after_the_verb(monkeypatch, capsys, words):
    trusted = []
    monkeypatch.setattr("melody_cm.storage.trust_module", trusted.append)
    assert main(list(words)) == 0
    assert trusted == ["mine"]
    assert "musiccm/3_teacher" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from melody_cm.cli.main import VERBS, build_parser; build_parser(VERBS);"
        "print([m for m in ('torch', 'lightning', 'transformers', 'numpy', 'librosa') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_rank_variable_is_an_unset_one(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "")
    assert main(["recipes"]) == 0
    assert "RANK" not in os.environ
