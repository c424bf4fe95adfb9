"""How quiet is silent."""

SILENT_PEAK = 1e-4  # Audio without a sample above this counts as silent.
