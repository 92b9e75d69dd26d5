"""Adapts a model's positions to inputs of another size.

As is usual for vision transformers, learned positions of a grid are
interpolated. Those of a sequence are cut, or further ones start anew. Fourier
features of the new grid keep the frequencies with which a model was trained.
"""

from collections.abc import Mapping
import math
from typing import Any

import jax
import numpy as np

from experiments.engine import declared
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.task import Config
from experiments.task import Positions
from perceiver.weights import tensors


def of(config: Config) -> Positions:
  """The parts of a config's model that depend on the size of inputs."""
  make = getattr(declared.module(config.task), "positions", None)
  return make(config) if make else Positions()


def keep_resolutions(
    config: Config, source: Config, where: Any
) -> tuple[Config, list[str]]:
  """A config whose Fourier features have the frequencies of a trained model.

  Otherwise, each would be another one where inputs have another size, since
  they reach half the resolution. A resolution that the config gives is kept.

  Args:
    config: complete.
    source: the complete config of the trained model.
    where: names it, for people.

  Returns:
    (the config, what a person should know of that).
  """
  here, there = of(config).resolutions, of(source).resolutions
  changes = {}
  for path in here.keys() & there.keys():
    trained = tuple(_setting(source, path) or there[path])
    if _setting(config, path) is None and len(trained) == len(here[path]):
      if trained != here[path]:
        changes[path] = trained
  notes = [
      f"Fourier features of {_times(here[path])} have the frequencies of"
      f" {where}: config.{path} = {','.join(map(str, value))}"
      for path, value in sorted(changes.items())
  ]
  return (settings.changed(config, changes) if changes else config), notes


def adapted(
    arrays: Mapping[str, Any], source: Config, config: Config
) -> tuple[dict[str, Any], list[str]]:
  """The arrays of a model, adapted to inputs of another size.

  Args:
    arrays: by our names.
    source: the complete config of their model.
    config: that of the new one.

  Returns:
    (the arrays; learned positions of a sequence that is longer now have as many
    rows as before; what a person should know of that).
  """
  here, there = of(config), of(source)
  changed, notes = dict(arrays), []
  for key in sorted(here.learned.keys() & there.learned.keys() & arrays.keys()):
    old, new = there.learned[key], here.learned[key]
    if old == new or len(old) != len(new):
      continue
    if key not in here.sequences:
      changed[key] = interpolated(arrays[key], old, new)
      notes.append(f"{key} is interpolated from {_times(old)} to {_times(new)}")
    elif old > new:
      changed[key] = np.asarray(arrays[key])[: new[0]]
      notes.append(f"{key} is cut from {old[0]} positions to {new[0]}")
    else:
      notes.append(
          f"{key}: {old[0]} of {new[0]} positions are taken, the others are new"
      )
  return changed, notes


def interpolated(
    array: Any, old: tuple[int, ...], new: tuple[int, ...]
) -> np.ndarray:
  """Learned vectors, interpolated to another grid over the same area.

  Bicubic, and smoothed where there are fewer cells than before.

  Args:
    array: [rows, C], those of the cells last, row-major.
    old: cells along each axis.
    new: those of the other grid.

  Returns:
    [rows, C]: the rows before those of cells, and the interpolated ones; the
    array itself if the grids are equal.

  Source: common practice with vision transformers, as timm's
  `resample_abs_pos_embed`.
  """
  array = np.asarray(array)
  if old == new:
    return array
  before = array.shape[0] - math.prod(old)
  cells = array[before:].reshape(*old, -1).astype(np.float32)
  resized = jax.image.resize(cells, (*new, cells.shape[-1]), "cubic")
  rows = np.asarray(resized, array.dtype).reshape(math.prod(new), -1)
  return np.concatenate([array[:before], rows])


def as_saved(like: Model, source: Config, config: Config) -> Model:
  """Shapes and shardings in which a model for inputs of another size was saved.

  Args:
    like: those that it has with `config`.
    source: the complete config that it was saved with.
    config: the complete one that it is wanted for.
  """
  here, there, flat = of(config), of(source), tensors.flatten(*like)
  for key in flat.keys() & here.learned.keys() & there.learned.keys():
    more = math.prod(there.learned[key]) - math.prod(here.learned[key])
    if more:
      rows, *rest = flat[key].shape
      flat[key] = jax.ShapeDtypeStruct(
          (rows + more, *rest),
          flat[key].dtype,
          sharding=sharding.copied(flat[key].sharding.mesh),
      )
  return Model(*tensors.unflatten(flat))


def fitted(
    saved: Model, like: Model, source: Config, config: Config
) -> tuple[Model, list[str]]:
  """A model restored with `as_saved`, adapted to inputs of another size.

  Args:
    saved: it.
    like: as of `as_saved`.
    source: as of `as_saved`.
    config: as of `as_saved`.

  Returns:
    (the model, what a person should know of that).

  Raises:
    UserError: if it needs positions of which nothing was learned.
  """
  wanted = tensors.flatten(*like)
  arrays, notes = adapted(tensors.flatten(*saved), source, config)
  for key, x in arrays.items():
    if x.shape != wanted[key].shape:
      raise UserError(
          f"{key}: the weights have {x.shape[0]} positions, the config"
          f" {wanted[key].shape[0]}; training from these weights adds the"
          " others"
      )
    if isinstance(x, np.ndarray):
      arrays[key] = jax.device_put(x, wanted[key].sharding)
  return Model(*tensors.unflatten(arrays)), notes


def _setting(config: Config, path: str) -> Any:
  for key in path.split("."):
    config = config.get(key)
    if config is None:
      return None
  return config


def _times(sizes: tuple[int, ...]) -> str:
  return " × ".join(map(str, sizes))
