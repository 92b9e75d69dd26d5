"""Sequences for autoregression: data, windows and baselines."""
