"""Systems side by side: the same prompts, seeds, reference and clock for all."""

from melody_cm.benchmark.compare import System, compare
from melody_cm.benchmark.machine import describe_machine
from melody_cm.benchmark.row import prompt_sensitivity
from melody_cm.benchmark.table import markdown_table, rich_table

__all__ = [
    "System",
    "compare",
    "describe_machine",
    "markdown_table",
    "prompt_sensitivity",
    "rich_table",
]
