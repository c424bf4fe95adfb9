"""Where finished stages are looked up: in the run that the command line entered.

The run's folder is kept in the environment variable MELODY_CM_RUN, so that all processes of a training find it.
"""

import os
from pathlib import Path

RUN_VARIABLE = "MELODY_CM_RUN"


def enter_run(run: Path) -> None:
    """From now on stages are looked up in this run, in this process and in those that it starts."""
    os.environ[RUN_VARIABLE] = str(Path(run).resolve())


def current_run() -> Path:
    """The folder of the run in which stages are looked up."""
    return Path(os.environ.get(RUN_VARIABLE, "."))


def stage_folder(stage: str) -> Path:
    """Where a finished stage of the current run lives; a FileNotFoundError names the recipe that makes it."""
    folder = current_run() / stage
    if not (folder / "finished.json").is_file():
        raise FileNotFoundError(
            f"stage {stage} is not finished in {current_run()}; "
            f"train it first with the same --run and --size: melody-cm train recipes/{stage}.yaml"
        )
    return folder
