"""How loud a signal is."""

SILENT_PEAK = 1e-4  # A clip without a sample above this is silent; full scale is 1.
