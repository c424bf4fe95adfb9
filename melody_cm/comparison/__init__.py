"""Systems side by side: the same prompts, seeds, reference and clock for all."""

from melody_cm.comparison.ablation import ablate, plan_ablation, stages_in_order
from melody_cm.comparison.card import card_results
from melody_cm.comparison.clips import prompt_sensitivity
from melody_cm.comparison.compare import System, compare
from melody_cm.comparison.compare_recipe import compare_recipe, plan_systems, read_compare_recipe
from melody_cm.comparison.doctor import doctor
from melody_cm.comparison.reproduce import EXPERIMENTS, reproduce
from melody_cm.comparison.tables import markdown_table, rich_table
