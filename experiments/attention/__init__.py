"""Attention maps: of which input, which queries, and how they are drawn."""
