"""Systems side by side: the same prompts, seeds, reference and clock for all."""

from melody_cm.benchmark.compare import System, compare, prompt_sensitivity
from melody_cm.benchmark.machine import describe_machine
from melody_cm.benchmark.speed import measure_speed
from melody_cm.benchmark.table import markdown_table, rich_table

__all__ = [
    "System",
    "compare",
    "describe_machine",
    "markdown_table",
    "measure_speed",
    "prompt_sensitivity",
    "rich_table",
]
