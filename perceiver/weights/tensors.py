"""Models as flat dictionaries of arrays, under our names or under others'.

Our keys are module path and name: `encoder/cross_attention/attention/q/w`; what
is no parameter begins with `state/`. Layers of one kind are one array.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, Any]  # Of NumPy or JAX.
STATE = "state/"


class WeightsError(ValueError):
  """Weights that do not fit; the message names them."""


class Conversion(NamedTuple):
  """From a tensor elsewhere to ours, and back."""

  read: Callable[[np.ndarray], np.ndarray]
  write: Callable[[np.ndarray], np.ndarray]


SAME = Conversion(lambda x: x, lambda x: x)


class Place(NamedTuple):
  """Where one of our arrays is elsewhere."""

  name: str  # With {} if there is one tensor for each of our array's rows.
  conversion: Conversion = SAME
  number: Callable[[int], str] = str  # What {} becomes.


Places = Callable[[str], Place | None]  # Of a key; None: it has none.


def flatten(params: Any, net_state: Any) -> dict[str, Any]:
  """Parameters and state of a model as one dictionary."""
  return {
      f"{prefix}{module}/{name}": array
      for prefix, tree in (("", params), (STATE, net_state))
      for module, arrays in tree.items()
      for name, array in arrays.items()
  }


def unflatten(flat: Mapping[str, Any]) -> tuple[Any, Any]:
  """Parameters and state, from what `flatten` returns."""
  params, net_state = {}, {}
  for key, array in flat.items():
    tree = net_state if key.startswith(STATE) else params
    module, name = key.removeprefix(STATE).rsplit("/", 1)
    tree.setdefault(module, {})[name] = array
  return params, net_state


def to_ours(
    tensors: Arrays,
    places: Places,
    like: Mapping[str, Any],
    unused: Sequence[str] = (),
) -> dict[str, np.ndarray]:
  """Our arrays, found among tensors with other names.

  Args:
    tensors: name there -> array.
    places: where each of our keys is.
    like: our keys -> anything with the shape that the model needs.
    unused: names that may be left over.

  Raises:
    WeightsError: if some are missing, left over, or of another shape.
  """
  ours, wanted, misshapen = {}, set(), []
  for key, expected in like.items():
    names, place = _names(key, places, expected.shape)
    wanted.update(names)
    if any(name not in tensors for name in names):
      continue
    shape = expected.shape[1:] if "{}" in place.name else expected.shape
    rows = []
    for name in names:
      try:
        row = place.conversion.read(np.asarray(tensors[name]))
      except (ValueError, IndexError):
        row = np.asarray(tensors[name])
      if row.shape != shape:
        misshapen.append(f"{name} {tensors[name].shape} for {key} {shape}")
      rows.append(row)
    if not misshapen:
      ours[key] = np.stack(rows) if "{}" in place.name else rows[0]
  extra = [n for n in tensors if n not in wanted and n not in unused]
  complain("missing", wanted - set(tensors))
  complain("not of this model", extra)
  complain("of another shape", misshapen)
  return ours


def to_theirs(ours: Arrays, places: Places) -> dict[str, np.ndarray]:
  """The same tensors under other names.

  Raises:
    WeightsError: if one of ours has no place there.
  """
  theirs = {}
  for key, array in ours.items():
    names, place = _names(key, places, array.shape)
    rows = array if "{}" in place.name else [array]
    for name, row in zip(names, rows, strict=True):
      written = place.conversion.write(np.asarray(row))
      theirs[name] = np.array(written, order="C")
  return theirs


def complain(what: str, names: Iterable[str]) -> None:
  """Raises a WeightsError that lists the names, unless there are none."""
  names = sorted(names)
  if names:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    raise WeightsError(
        f"{len(names)} tensors are {what}: {', '.join(names[:10])}{more}"
    )


def _names(key, places, shape):
  """The names of one of our arrays there, and its place."""
  place = places(key)
  if place is None:
    raise WeightsError(f"{key} has no counterpart in that release")
  if "{}" not in place.name:
    return [place.name], place
  rows = range(shape[0])
  return [place.name.format(place.number(i)) for i in rows], place
