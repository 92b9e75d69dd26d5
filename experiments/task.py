"""The interface between tasks and the engine.

What a file `experiments/TASK.py` defines, found by its name. One of the first
two must be there; each other one makes a command work for the task.

  network(config) -> Network: describing, converting and using a model.
  task(config) -> Task: training and evaluating it.
  fitted(config, note) -> config: what its data decides, found before training
    and evaluation; `note` takes a line of what a person should know.
  positions(config) -> Positions: what of the model depends on the size of
    inputs, for weights that were trained with another.
  SETTINGS, a table of `experiments.engine.settings`: what configs can set.
  attention_subjects(config, inputs) -> iterator of Subject: what
    `scripts.show_attention` draws of the command's inputs.
  PREDICTION, a Prediction: what `experiments.inference.load` and a command of
    `scripts.predict` do with a trained model.
  PUBLISHED, {name: perceiver.weights.download.Published}: what
    `scripts.convert_weights` downloads.
  OFFICIAL, a perceiver.weights.tensors.Places: names of the official release.
  transformers(config) -> Transformers: reading and writing weights of
    Hugging Face's transformers; a ValueError says what it cannot build.
"""

import argparse
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import grain
import jax
import numpy as np

from experiments.data.pipeline import Shard
from perceiver.weights.tensors import Places

Batch = Mapping[str, Any]  # name -> [B, ...]
Outputs = Any
Config = Any  # A ConfigDict; its values are of any type.


@dataclasses.dataclass(frozen=True)
class Movie:
  """Frames of a video, optionally with sound."""

  frames: np.ndarray  # RGB, uint8 [T, Y, X, 3].
  fps: float
  audio: np.ndarray | None = None  # float32 [S, 1] in [-1, 1].
  rate: int = 48_000  # Its samples per second.


@dataclasses.dataclass(frozen=True)
class Sound:
  """Sound, optionally with a MIDI file."""

  audio: np.ndarray  # float32 [S, 1] in [-1, 1].
  rate: int  # Samples per second.
  midi: bytes = b""  # The notes, as a MIDI file.


# What people look at: a figure, RGB, uint8 [Y, X, 3]; a text in Markdown.
Drawn = np.ndarray | str | Movie | Sound


# Under which `measure` of a classifier has class numbers, which have no mean.
CLASSES = ("label", "predicted")


def mean_of_each(
    measured: Mapping[str, np.ndarray],
) -> Mapping[str, float]:
  """The mean of each measurement over all examples, except for `CLASSES`."""
  return {
      name: float(np.mean(values, dtype=np.float64))
      for name, values in measured.items()
      if name not in CLASSES
  }


@dataclasses.dataclass(frozen=True)
class Eval:
  """An evaluation: a split, its measurements and their summary."""

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
  # Of what was measured of all examples.
  draw_all: Callable[[Mapping[str, np.ndarray]], Mapping[str, Drawn]] | None = (
      None
  )
  # Of the model, whole on one device: what it generates, after each evaluation
  # of training. Only the first process asks for it.
  sample: Callable[[Any], Mapping[str, Drawn]] | None = None


@dataclasses.dataclass(frozen=True)
class Network:
  """A model without data: enough to describe it and to use it."""

  example: Mapping[str, jax.ShapeDtypeStruct]  # What one example is made of.
  # Haiku code: (batch) or, if it differs in training, (batch, is_training).
  forward: Callable[..., Outputs]


@dataclasses.dataclass(frozen=True)
class Task(Network):
  """A task, as the training loop uses it."""

  train_data: Callable[[Shard], grain.IterDataset]  # From any batch on.
  # The loss is a mean over the examples of the batch.
  loss: Callable[[Outputs, Batch], tuple[jax.Array, Mapping[str, jax.Array]]]
  evals: Mapping[str, Eval]
  # What a person should know of the data, once it is opened.
  notes: Callable[[], Iterable[str]] = tuple
  # What people look at of the first batch of training, as `Eval.draw`.
  draw: Callable[[Batch], Mapping[str, Drawn]] | None = None


@dataclasses.dataclass(frozen=True)
class Positions:
  """The parts of a model that depend on the size of its inputs."""

  # Parameters whose rows are the cells of a grid -> its size. Rows of nothing
  # may come before them.
  learned: Mapping[str, tuple[int, ...]] = dataclasses.field(
      default_factory=dict
  )
  sequences: Collection[str] = ()  # Those of texts and the like.
  # Settings of Fourier features' resolution -> what None stands for.
  resolutions: Mapping[str, tuple[int, ...]] = dataclasses.field(
      default_factory=dict
  )


# Parts of an array in their order -> their grids.
Grids = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Subject:
  """An input with the layouts of its elements and output queries."""

  name: str
  batch: Mapping[str, Any]  # One example, without the batch's axis.
  inputs: Grids
  outputs: Grids
  frames: np.ndarray | None = None  # RGB in [0, 1], [T, Y, X, 3].
  wave: np.ndarray | None = None  # [S]
  seconds: float = 0.0  # How long that is.
  ids: np.ndarray | None = None  # Of a text, without padding.


def each_word(
    config: Config, words: Sequence[str], task: str | None = None
) -> Sequence[str]:
  """Words of a command line, each as a raw input.

  Raises:
    ValueError: if a task is named, though models have one alone.
  """
  if task is not None:
    raise ValueError(f"models of {config.task!r} have one task")
  return words


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A task's predictions, in Python and by `scripts.predict`."""

  name: str  # Of the command.
  config: str  # The published model's, unless the command names another.
  add_arguments: Callable[[argparse.ArgumentParser], None]
  # Prints or writes it. The second argument loads the model:
  # `experiments.inference.LoadedModel`.
  run: Callable[[argparse.Namespace, Callable[[], Any]], None]
  # (config, raw input, **options) -> a batch, as evaluation prepares it.
  prepare: Callable[..., Batch] | None = None
  # (model, raw input, **options) -> what the model says of it, by name.
  predict: Callable[..., Any] | None = None
  # (config, words of a command line, **options) -> the raw inputs they are.
  raws: Callable[..., Iterable[Any]] = each_word


@dataclasses.dataclass(frozen=True)
class Transformers:
  """The corresponding class of Hugging Face's transformers."""

  name: str
  places: Places
  # What it has built in: our settings by their paths, which must agree.
  built_in: Mapping[str, Any]
  settings: Mapping[str, Any]  # Of its config.json, what it alone reads.
  differences: Sequence[str] = ()  # In what it computes, for people.
  differences_of_theirs: Sequence[str] = ()  # Of its published files alone.
