"""The one interface between the tasks and the engine."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import inspect
from typing import Any

import grain
import jax
from ml_collections import ConfigDict
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


class PlainError(Exception):
  """What went wrong, in one line for the person who started the command."""


@contextlib.contextmanager
def plain(what: str) -> Iterator[None]:
  """Turns what Python raises at wrong settings into a `PlainError`."""
  try:
    yield
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    text = error.args[0] if isinstance(error, KeyError) else error
    raise PlainError(f"{what}: {text}") from error


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
  # Of the first batch, from host arrays.
  draw: Callable[[Outputs, Batch], Mapping[str, Drawn]] | None = None


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


def choose(
    options: Iterable[Callable[..., Any]], spec: Mapping[str, Any]
) -> Callable[..., Any]:
  """Binds `{"name": "pixels", **settings}` to the option called `pixels`.

  Raises:
    KeyError: if no option has that name.
    TypeError: if the option does not take one of the settings.
  """
  by_name = {option.__name__: option for option in options}
  # A section of settings reaches the library as a plain mapping.
  settings = spec.to_dict() if isinstance(spec, ConfigDict) else dict(spec)
  name = settings.pop("name")
  if name not in by_name:
    raise KeyError(f"{name!r} is not one of {sorted(by_name)}")
  accepted = inspect.signature(by_name[name]).parameters
  for setting in settings:
    if setting not in accepted:
      close = difflib.get_close_matches(setting, accepted, n=1)
      hint = f" Did you mean {close[0]!r}?" if close else ""
      raise TypeError(f"{name}() takes no setting {setting!r}.{hint}")
  return functools.partial(by_name[name], **settings)


def load(config: Config) -> Task:
  """The task that `config.task` names, built from the config.

  Raises:
    PlainError: if there is no such task, the config does not fit it, or it is a
      model without training.
  """
  module = _module(config)
  if not hasattr(module, "task"):
    raise PlainError(
        f"{module.__name__.replace('.', '/')}.py has a model and no training"
        " yet"
    )
  with plain(f"the config of task {config.task!r}"):
    return module.task(config)


def load_network(config: Config) -> Network:
  """The model alone of the task that `config.task` names.

  Raises:
    PlainError: if there is no such task, or the config does not fit it.
  """
  module = _module(config)
  with plain(f"the config of task {config.task!r}"):
    make = module.network if hasattr(module, "network") else module.task
    return make(config)


def _module(config: Config) -> Any:
  module = f"experiments.{config.task}"
  if importlib.util.find_spec(module) is None:
    raise PlainError(
        f"config.task = {config.task!r}: there is no {module.replace('.', '/')}"
        ".py."
    )
  return importlib.import_module(module)
