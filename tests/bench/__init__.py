"""Benchmarks: ratios of two ways to do the same, side by side in one run. Not tests: nothing here passes or fails."""
