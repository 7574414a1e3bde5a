"""What one call into a guest costs: `python -m bench.calls`."""
