"""Measurements and estimates of `scripts.benchmark` and `scripts.describe`."""
