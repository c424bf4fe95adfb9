"""The papers' tables beside what is measured here, with a verdict on each of their claims."""

from melody_cm.benchmark.reproduce.experiments import EXPERIMENTS
from melody_cm.benchmark.reproduce.page import reproduce
