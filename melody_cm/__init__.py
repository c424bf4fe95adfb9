"""Train, sample and compare MeLoDy and MusicCM, two fast text-to-music systems, side by side.

What the command line does, these functions do from Python; each is imported when it is first asked for.
"""

import importlib
import os
from typing import Any

__version__ = "0.2.0"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# name -> the module that has it, and its name there where that is another one.
_API = {
    "EXPERIMENTS": "comparison",
    "Results": "evaluation.results",
    "check_corpus": "data",
    "encode": "runs.encode",
    "find_duplicates": "data",
    "finish": "runs",
    "import_corpus": "data",
    "render_manifest": "data",
    "split_manifest": "data",
    "stream_wav": "pipelines",
    "write_corpus": "data",
    "MeLoDy": "pipelines",
    "MusicCM": "pipelines",
    "MusicLM": "pipelines",
    "load": "pipelines",
    "Placement": "placement",
    "Run": "runs",
    "Setting": "runs",
    "Plan": "runs",
    "Request": "pipelines",
    "ablate": "comparison",
    "card_results": "comparison",
    "caption_folder": "evaluation.captions",
    "cautions": "comparison.report.findings",
    "change_sheet": "evaluation.tables",
    "compare": "comparison:compare_recipe",
    "copy_recipe": "runs",
    "doctor": "comparison",
    "generate_files": "pipelines",
    "read_prompts": "data",
    "list_recipes": "runs",
    "open_page": "comparison.demo",
    "plan": "runs",
    "plan_ablation": "comparison",
    "plan_systems": "comparison",
    "stages_in_order": "comparison",
    "read_compare_recipe": "comparison",
    "read_votes": "comparison.votes",
    "refuse_unlike_placements": "placement",
    "reproduce": "comparison",
    "rich_table": "comparison",
    "train": "runs",
    "vote_sheets": "comparison.votes",
    "evaluate": "evaluation.folders",
    "evaluation_sheets": "evaluation.folders",
    "load_embedding": "evaluation.judge",
    "selftest": "evaluation.selftest",
    "selftest_sheets": "evaluation.selftest",
}

__all__ = ["__version__", *sorted(_API)]


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _API[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)
