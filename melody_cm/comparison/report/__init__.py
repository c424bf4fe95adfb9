"""Results as one HTML file that opens anywhere, offline."""
