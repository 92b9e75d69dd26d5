"""Games that AlphaStar Unplugged's converter has written, as moments.

A file is one player's game: a TFRecord file with one tf.Example. Its features
are named observation/NAME; each is an array over all steps, little-endian,
compressed by zlib. Read here are

* `observation/raw_units`, int32 [steps, 512, 48]: the columns of
  `features.CONVERTED_UNITS`, kinds of units as numbers below 256;
* `observation/action/unit_tags`, int32 [steps, 64]: the rows of the units that
  the action of a step is for, 512 where there is none.

Source: google-deepmind/alphastar, `unplugged/data`; PySC2's `env/converter`.
"""

from collections.abc import Iterator
import pathlib
import zlib

from google.protobuf import message
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from experiments.data import tfrecord
from experiments.data.errors import DataError
from experiments.data.starcraft.features import CONVERTED_UNITS
from experiments.data.starcraft.features import SELF

MAX_UNITS = 512
_UNITS = "observation/raw_units"
_TAGS = "observation/action/unit_tags"
_COLUMN = {name: i for i, name in enumerate(CONVERTED_UNITS)}


def moments(
    path: pathlib.Path,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Steps of a game in which units got commands.

  Args:
    path: a file.

  Yields:
    the step; the units' features, int32 [units, CONVERTED_UNITS], in the order
    of the file; and which of them the action is for, bool [units].

  Raises:
    DataError: if the file is something else.
  """
  arrays = features(path)
  units = _array(path, arrays, _UNITS).reshape(-1, MAX_UNITS, len(_COLUMN))
  tags = _array(path, arrays, _TAGS)
  if not len(units) or len(tags) % len(units):
    raise DataError(f"{path}: {len(units)} steps, but {len(tags)} unit tags")
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
    DataError: if it is none of a tf.Example.
  """
  starts = tfrecord.starts_of(str(path))
  if len(starts) != 1:
    raise DataError(f"{path}: {len(starts)} records instead of one game")
  record = tfrecord.record(str(path), 0)
  try:
    # A type checker does not see the class: it is made at import.
    example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  except message.DecodeError as error:
    raise DataError(f"{path}: the record is not a tf.Example") from error
  return {
      name: b"".join(feature.bytes_list.value)
      for name, feature in example.features.feature.items()
  }


def _array(
    path: pathlib.Path, arrays: dict[str, bytes], name: str
) -> np.ndarray:
  if name not in arrays:
    raise DataError(f"{path}: there is no {name}, only {sorted(arrays)}")
  try:
    array = np.frombuffer(zlib.decompress(arrays[name]), "<i4")
  except (ValueError, zlib.error) as error:
    raise DataError(f"{path}: {name}: {error}") from error
  if name == _UNITS and array.size % (MAX_UNITS * len(_COLUMN)):
    raise DataError(
        f"{path}: {name}: {array.size} numbers are not rows of {MAX_UNITS} x"
        f" {len(_COLUMN)}"
    )
  return array
