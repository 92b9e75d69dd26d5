"""The initialisation of a run: new parameters, or pretrained ones."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import itertools
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.engine import positions
from experiments.engine import weights
from experiments.engine.build import Built
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.engine.state import split
from experiments.engine.state import TrainState
from perceiver.weights import tensors

_SHOWN = 5  # Misfits whose shapes a message has; it names all of them.


class Given(NamedTuple):
  """Pretrained arrays that fit the model."""

  arrays: Mapping[str, np.ndarray]  # By our names, those that are taken.
  notes: tuple[str, ...]  # What is taken and what is not, for people.


def given(built: Built) -> Given:
  """Loads the weights that `config.init` names.

  Every pretrained array that has a place here is taken. What has none there,
  such as a new task's head, is initialised as usual. Learned positions are
  fitted to the size of inputs. Notes say which.

  Args:
    built: a task.

  Returns:
    the arrays; none if the config names no weights.

  Raises:
    UserError: if there are no such weights, none has a place here, or some have
      another shape and do not match `config.init.reinitialize`; it names all of
      these in a regular expression.
  """
  path, fresh = built.config.init.pretrained, built.config.init.reinitialize
  if not path:
    return Given({}, ())
  read = weights.load(path)
  _check_tokenizer(built, read)
  ours = tensors.flatten(*built.like.model)
  theirs = tensors.flatten(*read.model)
  shared = [
      key
      for key in ours
      if key in theirs and not (fresh and re.search(fresh, key))
  ]
  resized, more = positions.adapted(
      {key: theirs[key] for key in shared}, read.config, built.config
  )
  of_sequences = positions.of(built.config).sequences
  misfits = [
      key
      for key in shared
      if ours[key].shape != resized[key].shape
      and not (
          key in of_sequences and ours[key].shape[1:] == resized[key].shape[1:]
      )
  ]
  if misfits:
    shapes = "; ".join(
        f"{key} {list(theirs[key].shape)} there, {list(ours[key].shape)} here"
        for key in misfits[:_SHOWN]
    )
    rest = len(misfits) - _SHOWN
    shapes += f"; and {rest} more" if rest > 0 else ""
    pattern = f"^({'|'.join(map(re.escape, misfits))})$"
    pattern = f"{fresh}|{pattern}" if fresh else pattern
    raise UserError(
        f"{path}: {len(misfits)} of {len(shared)} tensors have another shape:"
        f" {shapes}. To re-initialise these:"
        f" --config.init.reinitialize='{pattern}'"
    )
  if not shared:
    raise UserError(
        f"{path} has no parameter of this model: {list(theirs)[:5]}"
    )
  notes = [
      f"{text} {', '.join(_in_short(keys)) or 'none'}"
      for text, keys in (
          (f"pretrained: {path}; initialised here:", ours.keys() - set(shared)),
          ("not used of it:", theirs.keys() - set(shared)),
      )
  ]
  return Given(resized, (*notes, *more))


def initial_state(
    built: Built, found: Given, note: Callable[[str], None]
) -> TrainState:
  """The initial state with the given arrays.

  Args:
    built: a task.
    found: what `given` returns of it.
    note: called with a line for people.
  """
  state, frozen = built.initial_state(), built.config.init.frozen
  if frozen:
    _, fixed = split(state.model.params, frozen)
    names = _in_short(tensors.flatten(fixed, {}))
    note(f"frozen: {', '.join(names)}")
  for line in found.notes:
    note(line)
  if not found.arrays:
    return state
  taken = {
      key: _placed(found.arrays[key], x) if key in found.arrays else x
      for key, x in tensors.flatten(*state.model).items()
  }
  return state._replace(model=Model(*tensors.unflatten(taken)))


def _placed(given: Any, ours: jax.Array) -> jax.Array:
  """An array in the sharding of ours; missing rows come from ours."""
  given = np.asarray(given, ours.dtype)
  if given.shape == ours.shape:
    return jax.device_put(given, ours.sharding)
  put = jax.jit(
      lambda x, rows: x.at[: len(rows)].set(rows), out_shardings=ours.sharding
  )
  return put(ours, given)


def _in_short(keys: Iterable[str]) -> Iterator[str]:
  """Names of arrays, or their number for a part with many."""
  parts = itertools.groupby(sorted(keys), lambda key: key.partition("/")[0])
  for part, its in parts:
    names = list(its)
    yield from [f"{len(names)} of {part}"] if len(names) > 4 else names


def _check_tokenizer(built: Built, read: weights.Weights) -> None:
  """Checks that weights were trained with the same tokenizer."""
  here, there = (c.get("tokenizer") for c in (built.config, read.config))
  if here and there and here.to_dict() != there.to_dict():
    raise UserError(
        f"{built.config.init.pretrained} was trained with the tokenizer"
        f" {there.to_dict()}, and here it is {here.to_dict()}"
    )
