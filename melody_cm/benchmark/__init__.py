"""Systems side by side: the same prompts, seeds, reference and clock for all."""

from melody_cm.benchmark.clips import prompt_sensitivity
from melody_cm.benchmark.compare import System, compare
from melody_cm.benchmark.tables import markdown_table, rich_table

__all__ = ["System", "compare", "markdown_table", "prompt_sensitivity", "rich_table"]
