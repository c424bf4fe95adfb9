"""Runs: recipes composed and planned, stages trained in order, and the systems that finished stages make."""

from melody_cm.runs.fingerprint import read_finished, stage_weights
from melody_cm.runs.plan import Plan, plan, plan_stages, recipe_folder
from melody_cm.runs.recipe import SIZES, ListedRecipe, Recipe, Setting, build_data, copy_recipe, list_recipes
from melody_cm.runs.run import Interrupted, Run, finish, open_source, train
from melody_cm.runs.systems import preset_of, stages_of
from melody_cm.runs.training import load_training
