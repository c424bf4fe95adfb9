"""How loud sound must be to count as sound."""

SILENT_PEAK = 1e-4
"""Audio without a sample above this peak is silent (80 dB below full scale)."""
