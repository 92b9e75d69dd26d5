"""What a run is initialised with: new parameters, or pretrained ones."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import itertools
import re
from typing import Any

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


def initial_state(built: Built, note: Callable[[str], None]) -> TrainState:
  """The initial state of a run, with the weights that `config.init` names.

  Every pretrained array that has a place here is taken. What has none there,
  such as a new task's head, is initialised as usual. Learned positions are
  fitted to the size of inputs. Notes say which.

  Args:
    built: a task.
    note: called with a line for people.

  Raises:
    UserError: if there are no such weights, none has a place here, or one has
      another shape and does not match `config.init.reinitialize`.
  """
  state, wanted = built.initial_state(), built.config.init
  if wanted.frozen:
    _, fixed = split(state.model.params, wanted.frozen)
    names = _in_short(tensors.flatten(fixed, {}))
    note(f"frozen are {', '.join(names)}")
  if not wanted.pretrained:
    return state
  path = wanted.pretrained
  given = weights.load(path)
  _check_tokenizer(built, given)
  ours, theirs = tensors.flatten(*state.model), tensors.flatten(*given.model)
  shared = [
      key
      for key in ours
      if key in theirs
      and not (wanted.reinitialize and re.search(wanted.reinitialize, key))
  ]
  resized, notes = positions.adapted(
      {key: theirs[key] for key in shared}, given.config, built.config
  )
  of_sequences = positions.of(built.config).sequences
  for key in shared:
    here, there = ours[key].shape, resized[key].shape
    if here != there and not (key in of_sequences and here[1:] == there[1:]):
      raise UserError(
          f"{path}: {key} is {list(theirs[key].shape)} there and"
          f" {list(ours[key].shape)} here; --config.init.reinitialize={key}"
          " re-initialises it"
      )
  if not shared:
    raise UserError(
        f"{path} has no parameter of this model: {list(theirs)[:5]}"
    )
  for text, keys in (
      (f"pretrained: {path}; initialised here:", ours.keys() - set(shared)),
      ("not used of it:", theirs.keys() - set(shared)),
  ):
    note(f"{text} {', '.join(_in_short(keys)) or 'none'}")
  for line in notes:
    note(line)
  taken = {
      key: _placed(resized[key], x) if key in shared else x
      for key, x in ours.items()
  }
  return state._replace(model=Model(*tensors.unflatten(taken)))


def _placed(given: Any, ours: jax.Array) -> jax.Array:
  """An array where ours is; rows that it has not got are ours."""
  given = np.asarray(given, ours.dtype)
  if given.shape == ours.shape:
    return jax.device_put(given, ours.sharding)
  put = jax.jit(
      lambda x, rows: x.at[: len(rows)].set(rows), out_shardings=ours.sharding
  )
  return put(ours, given)


def _in_short(keys: Iterable[str]) -> Iterator[str]:
  """Names of arrays; of a part with many of them their number."""
  parts = itertools.groupby(sorted(keys), lambda key: key.partition("/")[0])
  for part, its in parts:
    names = list(its)
    yield from [f"{len(names)} of {part}"] if len(names) > 4 else names


def _check_tokenizer(built: Built, given: weights.Weights) -> None:
  """Refuses weights whose ids stand for another text than here."""
  here, there = (c.get("tokenizer") for c in (built.config, given.config))
  if here and there and here.to_dict() != there.to_dict():
    raise UserError(
        f"{built.config.init.pretrained} was trained with the tokenizer"
        f" {there.to_dict()}, and here it is {here.to_dict()}"
    )
