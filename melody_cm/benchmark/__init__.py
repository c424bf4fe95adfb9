"""Systems side by side: the same prompts, seeds, reference and clock for all."""

from melody_cm.benchmark.ablation import ablate
from melody_cm.benchmark.clips import prompt_sensitivity
from melody_cm.benchmark.compare import System, compare
from melody_cm.benchmark.compare_recipe import compare_recipe, read_compare_recipe
from melody_cm.benchmark.doctor import doctor
from melody_cm.benchmark.reproduce import EXPERIMENTS, reproduce
from melody_cm.benchmark.tables import markdown_table, rich_table
