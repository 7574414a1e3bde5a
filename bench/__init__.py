"""Measurements: `make bench`. See README.md."""
