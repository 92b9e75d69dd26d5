"""Games that AlphaStar Unplugged's converter has written, as moments.

A file is one player's game: a TFRecord file with one tf.Example. Its features
are named observation/NAME; each is an array over all steps, little-endian,
compressed by zlib. Read here are

* `observation/raw_units`, int32 [steps, 512, 48]: the columns of
  `unit_features.CONVERTED_UNITS`, kinds of units as numbers below 256;
* `observation/action/unit_tags`, int32 [steps, 64]: the rows of the units that
  the action of a step is for, 512 where there is none.

Source: google-deepmind/alphastar, `unplugged/data`; PySC2's `env/converter`.
"""

from collections.abc import Iterator
import pathlib
import zlib

import numpy as np

from experiments.data import tfrecord
from experiments.data.starcraft.features import CONVERTED_UNITS
from experiments.data.starcraft.features import SELF

MAX_UNITS = 512
_UNITS = "observation/raw_units"
_TAGS = "observation/action/unit_tags"
_COLUMN = {name: i for i, name in enumerate(CONVERTED_UNITS)}


class RecordError(ValueError):
  """What is wrong with a file."""


def moments(
    path: pathlib.Path,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Steps of a game in which units were told to do something.

  Args:
    path: a file.

  Yields:
    the step; the units' features, int32 [units, CONVERTED_UNITS], in the order
    of the file; and which of them the action is for, bool [units].

  Raises:
    RecordError: if the file is something else.
  """
  arrays = features(path)
  units = _array(path, arrays, _UNITS).reshape(-1, MAX_UNITS, len(_COLUMN))
  tags = _array(path, arrays, _TAGS)
  if not len(units) or len(tags) % len(units):
    raise RecordError(f"{path}: {len(units)} steps, but {len(tags)} unit tags")
  for step, (rows, chosen) in enumerate(
      zip(units, tags.reshape(len(units), -1), strict=True)
  ):
    selected = np.zeros(MAX_UNITS, bool)
    selected[chosen[(chosen >= 0) & (chosen < MAX_UNITS)]] = True
    selected &= selectable(rows)
    real = rows[:, _COLUMN["alliance"]] != 0
    if selected.any():
      yield step, rows[real], selected[real]


def selectable(rows: np.ndarray) -> np.ndarray:
  """Which units a player may select: his own, outside of others, no effects."""
  is_own = rows[..., _COLUMN["alliance"]] == SELF
  is_unit = rows[..., _COLUMN["tag"]] > 0
  return is_own & is_unit & (rows[..., _COLUMN["is_in_cargo"]] == 0)


def features(path: pathlib.Path) -> dict[str, bytes]:
  """The features of a file's only record, compressed as they are.

  Raises:
    RecordError: if it is none of a tf.Example.
  """
  try:
    starts = tfrecord.starts(str(path))
  except ValueError as error:
    raise RecordError(str(error)) from error
  if len(starts) != 1:
    raise RecordError(f"{path}: {len(starts)} records instead of one game")
  # Before it are its length and a check sum, after it another.
  record = path.read_bytes()[12:-4]
  try:
    found = {}
    for entry in _parts(_only(record)):  # Features, and its map's entries.
      pair = dict(_fields(entry))
      values = _parts(_only(pair[2]))  # A feature of bytes, one of them.
      found[pair[1].decode()] = next(values)
    return found
  except (IndexError, KeyError, StopIteration, UnicodeDecodeError) as error:
    raise RecordError(f"{path}: the record is no tf.Example") from error


def _array(
    path: pathlib.Path, arrays: dict[str, bytes], name: str
) -> np.ndarray:
  if name not in arrays:
    raise RecordError(f"{path}: there is no {name}, only {sorted(arrays)}")
  try:
    array = np.frombuffer(zlib.decompress(arrays[name]), "<i4")
  except (ValueError, zlib.error) as error:
    raise RecordError(f"{path}: {name}: {error}") from error
  if name == _UNITS and array.size % (MAX_UNITS * len(_COLUMN)):
    raise RecordError(
        f"{path}: {name}: {array.size} numbers are no rows of {MAX_UNITS} x"
        f" {len(_COLUMN)}"
    )
  return array


# A message of protocol buffers is a sequence of a field's number with the kind
# of what follows, and that: here always a length, and as many bytes.
_BYTES = 2


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
  place = 0
  while place < len(message):
    key, place = _varint(message, place)
    if key & 7 != _BYTES:
      raise IndexError(f"a field of kind {key & 7}")
    length, place = _varint(message, place)
    if place + length > len(message):
      raise IndexError("it is cut off")
    yield key >> 3, message[place : place + length]
    place += length


def _parts(message: bytes) -> Iterator[bytes]:
  """The values of a repeated field that a message consists of."""
  return (value for _, value in _fields(message))


def _only(message: bytes) -> bytes:
  """The value of the only field of a message."""
  (value,) = dict(_fields(message)).values() or [b""]
  return value


def _varint(message: bytes, place: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = message[place]
    place += 1
    value |= (byte & 127) << shift
    shift += 7
    if byte < 128:
      return value, place
