"""The package works where it is installed, without its checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# One process for all commands: starting Python and torch takes longer than the work.
COMMANDS = """
import sys
import melody_cm
from melody_cm.cli.main import main
assert "site-packages" in melody_cm.__file__, melody_cm.__file__
melody_cm.load, melody_cm.generate_files
# Each takes longer than all that a pipeline needs from the start.
assert not {"diffusers", "lightning", "scipy.signal", "transformers"} & set(sys.modules)
few = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--data.corpus.num_clips", "24"]
for command in (
    ["recipes"],
    ["copy", "musiccm/1_mel_vae", "mine/1_mel_vae.yaml"],
    ["train", "mine/1_mel_vae.yaml", "--size", "tiny", "--run", "own", *few],
    ["train", "recipes/musiccm", "--size", "tiny", "--run", "own", "--dry-run"],
    ["export", "RUN/musiccm", "exported"],
    ["generate", "exported", "--prompt", "slow piano", "--seconds", "2.56", "--out", "pieces"],
    ["evaluate", "--generated", "pieces", "--reference", "pieces", "--embedding", "logmel", "--out", "results.json"],
):
    assert main(command) == 0, command
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_every_preset_and_recipe_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "recipes"):
        files = [path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).rglob("*.yaml")]
        assert files
        assert {f"melody_cm/{path.as_posix()}" for path in files} <= names


def test_all_demo_systems_together_take_at_most_25_megabytes_of_it(wheel):
    taken = [info.compress_size for info in zipfile.ZipFile(wheel).infolist() if "melody_cm/demo/" in info.filename]
    assert len(taken) > 30
    assert sum(taken) <= 25e6


def test_from_an_empty_folder_the_installed_package_trains_exports_generates_and_evaluates(wheel, tmp_path, tiny_run):
    venv.create(tmp_path / "fresh", with_pip=False)
    site = next((tmp_path / "fresh").glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # What the package depends on is looked up where the tests have it; paths in .pth files there are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [str(tmp_path / "fresh/bin/python"), "-c", COMMANDS.replace("RUN", str(tiny_run))]
    environment = {"OMP_NUM_THREADS": "1", "MELODY_CM_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "results.json").is_file()
