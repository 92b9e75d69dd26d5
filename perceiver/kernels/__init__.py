"""Attention implementations: plain, in blocks, and fused."""
