"""Recorded models of the official release and of transformers, as ours.

Sizes and constructor arguments stand in a JSON beside the arrays; from them
comes one of our configs.
"""

from collections.abc import Mapping
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict
import numpy as np

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
  """One call of a recorded model."""

  name: str
  batch: Arrays  # What our model is given.
  outputs: Arrays  # What came out there, under our names.
  steps: Arrays  # What was on the way, under their names.
  cotangents: Arrays | None  # Of the outputs, and
  gradients: Arrays | None  # with respect to the parameters.
  # Where the recorded function is not ours, so that steps and gradients, which
  # are of it alone, are not comparable.
  differs: str = ""


class Recorded(NamedTuple):
  """A model with its parameters and what it computed."""

  name: str
  config: ConfigDict
  tensors: Arrays
  cases: list[Case]
  # Hugging Face's steps and gradients: with GELU as it is, not its tanh form.
  exact_gelu: bool = False
  whole: Arrays | None = None  # All of the first case decoded, in chunks.


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
  """Those whose names begin with a prefix, without it."""
  return {
      name.removeprefix(prefix): array
      for name, array in arrays.items()
      if name.startswith(prefix)
  }


def load_arrays(file: pathlib.Path) -> Arrays:
  """All arrays of an `.npz`."""
  with np.load(file) as arrays:
    return dict(arrays)


def renamed(arrays: Arrays, renames: Mapping[str, str]) -> Arrays:
  """The same arrays, some under other names."""
  return {renames.get(name, name): array for name, array in arrays.items()}


def latents(kwargs: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of our Encoder and Processor."""
  qk_channels = kwargs.get("qk_channels")
  in_read = qk_channels
  if (
      qk_channels is None
      and kwargs.get("cross_attention_shape_for_attn") == "q"
  ):
    in_read = kwargs["num_z_channels"]
  return {
      "encoder": {
          "num_latents": kwargs["z_index_dim"],
          "latent_channels": kwargs["num_z_channels"],
          "num_heads": kwargs["num_cross_attend_heads"],
          "qk_channels": in_read,
          "v_channels": kwargs.get("v_channels"),
          "widening_factor": kwargs["cross_attend_widening_factor"],
          "use_query_residual": kwargs.get("use_query_residual", True),
      },
      "processor": {
          "layers_per_block": kwargs["num_self_attends_per_block"],
          "num_blocks": kwargs["num_blocks"],
          "num_heads": kwargs["num_self_attend_heads"],
          "qk_channels": qk_channels,
          "widening_factor": kwargs["self_attend_widening_factor"],
      },
  }


def kinetics_batch(
    video: np.ndarray,
    audio: np.ndarray,
    video_points: np.ndarray,
    audio_points: np.ndarray,
) -> Arrays:
  """A batch whose examples are decoded at the same points."""
  count = len(video)
  repeat = lambda points: np.tile(np.asarray(points, np.int32), (count, 1))
  return {
      "video": video,
      "audio": audio,
      "label": np.zeros([count], np.int32),  # It is masked.
      "video_points": repeat(video_points),
      "audio_points": repeat(audio_points),
  }
