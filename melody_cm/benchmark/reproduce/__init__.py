"""The papers' tables beside what is measured here, with a verdict on each of their claims."""

from melody_cm.benchmark.reproduce.claims import Finding, Measurements, Number
from melody_cm.benchmark.reproduce.experiments import EXPERIMENTS, Experiment
from melody_cm.benchmark.reproduce.page import as_dict, markdown

__all__ = ["EXPERIMENTS", "Experiment", "Finding", "Measurements", "Number", "as_dict", "markdown"]
