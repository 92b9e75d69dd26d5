"""The one interface between the tasks and the engine."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import grain
import jax
import numpy as np

from experiments.data.pipeline import Shard

Batch = Mapping[str, Any]  # name -> [B, ...]
Outputs = Any
Config = Any  # A ConfigDict; its values are of any type.


@dataclasses.dataclass(frozen=True)
class Movie:
  """Moving pictures, perhaps with sound."""

  frames: np.ndarray  # RGB, uint8 [T, Y, X, 3].
  fps: float
  audio: np.ndarray | None = None  # float32 [S, 1] in [-1, 1].
  rate: int = 48_000  # Its samples per second.


# What people look at: a picture, RGB, uint8 [Y, X, 3]; a text in Markdown.
Drawn = np.ndarray | str | Movie


def mean_of_each(
    measured: Mapping[str, np.ndarray],
) -> Mapping[str, float]:
  """The mean over all examples of each thing measured."""
  return {
      name: float(np.mean(values, dtype=np.float64))
      for name, values in measured.items()
  }


@dataclasses.dataclass(frozen=True)
class Eval:
  """One row of results: a split, what to measure on it, how to sum it up."""

  # One pass over the split; "real" is False on rows that only fill a batch.
  data: Callable[[Shard], Iterable[Batch]]
  measure: Callable[[Outputs, Batch], Mapping[str, jax.Array]]  # each [B, ...]
  summarize: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]] = (
      mean_of_each
  )
  # Of some rows of the first batch, from host arrays.
  draw: Callable[[Outputs, Batch], Mapping[str, Drawn]] | None = None
  # Which rows; their outputs come to every host, so they should be few.
  draw_rows: slice = dataclasses.field(default_factory=lambda: slice(16))


@dataclasses.dataclass(frozen=True)
class Network:
  """What a model is made of: all that describing it or using it needs."""

  example: Mapping[str, jax.ShapeDtypeStruct]  # What one example is made of.
  forward: Callable[[Batch, bool], Outputs]  # Haiku code: (batch, is_training).


@dataclasses.dataclass(frozen=True)
class Task(Network):
  """Everything that the training loop knows about a task."""

  train_data: Callable[[Shard], grain.IterDataset]  # From any batch on.
  # The loss is a mean over the examples of the batch.
  loss: Callable[[Outputs, Batch], tuple[jax.Array, Mapping[str, jax.Array]]]
  evals: Mapping[str, Eval]
  # What a person should know of the data, once it is opened.
  notes: Callable[[], Iterable[str]] = tuple
  # What people look at of the first batch of training, as `Eval.draw`.
  draw: Callable[[Batch], Mapping[str, Drawn]] | None = None
