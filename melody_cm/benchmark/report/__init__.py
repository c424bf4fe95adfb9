"""A comparison or an ablation as one HTML file that opens anywhere, offline."""

from melody_cm.benchmark.report.ablation import write_ablation_report
from melody_cm.benchmark.report.comparison import write_report

__all__ = ["write_ablation_report", "write_report"]
