"""Train, sample and compare MeLoDy and MusicCM, two fast text-to-music systems, side by side.

What the command line does, these functions do from Python; each is imported when it is first asked for.
"""

import importlib
import os
from typing import Any

__version__ = "0.2.0"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What each module gives; `compare` is the one that has another name where it is defined.
_OFFERED = {
    "comparison": ("card_results", "doctor", "rich_table"),
    "comparison.ablation": ("ablate", "plan_ablation", "stages_in_order"),
    "comparison.compare_recipe": ("compare", "plan_systems", "read_compare_recipe"),
    "comparison.demo": ("open_page",),
    "comparison.report.findings": ("cautions",),
    "comparison.reproduce": ("EXPERIMENTS", "reproduce"),
    "comparison.votes": ("read_votes", "vote_sheets"),
    "data": ("check_corpus", "find_duplicates", "import_corpus", "read_prompts", "render_manifest"),
    "data.splitting": ("split_manifest",),
    "data.synthetic": ("write_corpus",),
    "evaluation.captions": ("caption_folder",),
    "evaluation.folders": ("evaluate", "evaluation_sheets"),
    "evaluation.judge": ("load_embedding",),
    "evaluation.results": ("Results",),
    "evaluation.selftest": ("selftest", "selftest_sheets"),
    "evaluation.tables": ("change_sheet",),
    "pipelines": ("MeLoDy", "MusicCM", "MusicLM", "Request", "generate_files", "load", "stream_wav"),
    "placement": ("Placement", "refuse_unlike_placements"),
    "runs": ("Plan", "Run", "Setting", "copy_recipe", "finish", "list_recipes", "plan", "train"),
    "runs.encode": ("encode",),
}
_MODULES = {name: module for module, names in _OFFERED.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, "compare_recipe" if name == "compare" else name)
