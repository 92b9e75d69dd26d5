"""Predictions and attention maps of trained models."""

from experiments.inference.model import load
from experiments.inference.model import LoadedModel
from experiments.inference.model import published

__all__ = ["LoadedModel", "load", "published"]
