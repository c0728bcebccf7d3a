"""Grids of runs: what to run, running it, and what it says."""
