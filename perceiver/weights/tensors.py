"""Models as flat dictionaries of arrays, with names of any release.

Our keys are module path and name: `encoder/cross_attention/attention/q/w`; what
is no parameter begins with `state/`. Layers of one kind are one array.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import io
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Arrays = Mapping[str, Any]  # Of NumPy or JAX.
STATE = "state/"


class WeightsError(ValueError):
  """Weights that do not fit; the message names them."""


# What numbers may be of, as NumPy writes it.
_NUMBERS = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())


def dtype_of(name: str, order: str = "=") -> np.dtype:
  """The dtype with a name from a file.

  Args:
    name: as "f4" or "bfloat16".
    order: byte order: "<", ">", "=" or "|".

  Raises:
    WeightsError: if it is none: objects, texts, dates, complex numbers, fields.
  """
  if not isinstance(order, str) or order not in ("<", ">", "=", "|"):
    raise WeightsError("numbers with an unknown byte order")
  if name == "bfloat16" and order != ">":
    return np.dtype(jnp.bfloat16)
  if name not in _NUMBERS:
    raise WeightsError(f"{printable(name)!r} is not a dtype of weights")
  return np.dtype(order + name)


def printable(text: object, most: int = 100) -> str:
  """A text from a file on one line, truncated to a number of characters."""
  line = " ".join(str(text)[: 4 * most].split())
  line = "".join(c if c.isprintable() else "?" for c in line)
  return line if len(line) <= most else f"{line[: most - 3]}..."


def gist(error: Exception) -> str:
  """A library's error about an unreadable file, on one line."""
  return printable(f"{type(error).__name__}: {error}", 200)


class Conversion(NamedTuple):
  """A conversion of a tensor from another release, and its inverse."""

  read: Callable[[np.ndarray], np.ndarray]
  write: Callable[[np.ndarray], np.ndarray]


SAME = Conversion(lambda x: x, lambda x: x)


class Place(NamedTuple):
  """The place of one of our arrays in another release."""

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
  """Parameters and state, the inverse of `flatten`."""
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
  """Our arrays, from the tensors of another release.

  Args:
    tensors: name there -> array.
    places: the place of each of our keys.
    like: our keys -> anything with the shape that the model needs.
    unused: names that may be left over.

  Raises:
    WeightsError: if some are missing, left over, of another shape, or not of
      numbers.
  """
  strange = [f"{n} {x.dtype}" for n, x in tensors.items() if not _is_plain(x)]
  complain("of a dtype that weights cannot have", strange)
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
  """The tensors with the names of another release.

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


def fitted(
    ours: Arrays, like: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """The arrays in the dtypes of a model, and a list of problems.

  Args:
    ours: our keys -> array.
    like: the same keys -> anything with the dtype that the model needs.

  Returns:
    (key -> array, a line for each array that has numbers which are not finite
    or too large for its dtype).

  Raises:
    WeightsError: if whole numbers are expected and others are given.
  """
  arrays, lines, no_counts = {}, [], []
  for key, given in ours.items():
    with np.errstate(over="ignore", invalid="ignore"):
      array = np.asarray(given, like[key].dtype)
    arrays[key] = array
    name, total = printable(key), array.size
    if jnp.issubdtype(array.dtype, jnp.inexact):
      before = np.count_nonzero(~np.isfinite(given))
      after = np.count_nonzero(~np.isfinite(array))
      if before:
        lines.append(f"{name} has {before} of {total} numbers not finite")
      if after > before:
        lines.append(
            f"{name} has {after - before} of {total} numbers too large for"
            f" {array.dtype}"
        )
    elif not np.array_equal(array, given):
      no_counts.append(name)
  complain("not of whole numbers that the model can hold", no_counts)
  return arrays, lines


def _is_plain(array: Any) -> bool:
  """Whether an array has numbers that a model can use."""
  dtype = array.dtype
  return dtype == jnp.bfloat16 or dtype.str[1:] in _NUMBERS


def npy_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, whether in Fortran's order, and dtype of an array in NumPy's format.

  Args:
    file: at the array's beginning; then at its numbers.

  Raises:
    ValueError, KeyError: if it is damaged, or of a version beyond 2.0.
  """
  read = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
  }[np.lib.format.read_magic(file)]
  return read(file)


def complain(what: str, names: Iterable[str]) -> None:
  """Raises a WeightsError that lists the names, unless there are none."""
  names = [printable(name, 200) for name in sorted(names)]
  if names:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    raise WeightsError(
        f"{len(names)} tensors are {what}: {', '.join(names[:10])}{more}"
    )


def _names(key, places, shape):
  """The names of one of our arrays in the release, and its place."""
  place = places(key)
  if place is None:
    raise WeightsError(f"{key} has no counterpart in that release")
  if "{}" not in place.name:
    return [place.name], place
  rows = range(shape[0])
  return [place.name.format(place.number(i)) for i in rows], place
