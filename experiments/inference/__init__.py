"""Trained models at work: predictions, and attention maps."""
