"""Settings for all tests: checked tensor shapes, quiet threads, no network, the shared music where it exists."""

import gc
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def modules_with_shapes() -> list[str]:
    """The modules of melody_cm that name the shape of any tensor; checking the others too takes long to import."""
    files = (REPOSITORY / "melody_cm").rglob("*.py")
    named = [file for file in files if "from jaxtyping" in file.read_text(encoding="utf-8")]
    return [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in named]


# Every jaxtyping signature in melody_cm is checked at run time while tests run.
install_import_hook(modules_with_shapes(), "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402


def pytest_collection_finish():
    """What importing made stays anyway: the collector need not look at its million objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_test():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real music that lies beside a development checkout; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real music at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A run in which every stage was trained for two steps at size tiny; it is shared by all tests, and only read."""
    from two_steps import train_two_steps

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # One for all processes of pytest-xdist.
    run = base / "tiny/runs/mine"
    with pytest.MonkeyPatch.context() as patch, FileLock(base / "tiny.lock"):
        patch.setenv("MELODY_CM_CACHE", str(base / "tiny/cache"))
        patch.setenv("MELODY_CM_RUN", str(run))
        if not (run / "whole").exists():
            train_two_steps(run)
            (run / "whole").touch()
    return run
