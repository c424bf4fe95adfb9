"""A comparison as one HTML file that opens anywhere, offline."""

from melody_cm.benchmark.report.page import write_report

__all__ = ["write_report"]
