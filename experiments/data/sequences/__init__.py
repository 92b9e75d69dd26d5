"""Sequences for autoregression: windows of them, and what to compare with."""
