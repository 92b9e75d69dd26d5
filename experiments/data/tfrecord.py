"""TFRecord files that TFDS has written, by index and without TensorFlow.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord for the format.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import concurrent.futures
import hashlib
import os
import pathlib
import struct
from typing import Any

from jaxtyping import Int64
import numpy as np

from experiments.data import atomic
from experiments.data.errors import DataError
from experiments.data.pipeline import Example

# A record is its length in 8 bytes, a check sum in 4, itself, and another 4.
_BEFORE, _AROUND = 12, 16
# Files are on disks that wait; more threads than cores wait for more at once.
_THREADS = 16


class Records:
  """Examples of a split, by index, from as many files as TFDS wrote."""

  def __init__(
      self, builder: Any, split: str, decoders: Mapping[str, Any] | None = None
  ):
    """Finds where each record starts.

    That is read once: it is kept in $XDG_CACHE_HOME/perceiver, by default
    ~/.cache/perceiver, until a file changes.

    Args:
      builder: of TFDS, which knows the files and features.
      split: of it; slices such as "train[:80%]" too.
      decoders: as of `builder.as_data_source`.

    Raises:
      FileNotFoundError: if a file is missing.
      DataError: if one is cut off, or has not as many records as TFDS wrote.
    """
    parts = builder.info.splits[split].file_instructions
    self._features, self._decoders = builder.info.features, decoders
    self._paths = [str(part.filename) for part in parts]
    in_files = _indexed(self._paths)
    starts, numbers = [], []
    for part, found in zip(parts, in_files, strict=True):
      if len(found) != part.examples_in_shard:
        raise DataError(
            f"{part.filename} has {len(found)} records, and TFDS wrote"
            f" {part.examples_in_shard}: copy it again"
        )
      stop = None if part.take < 0 else part.skip + part.take
      starts.append(found[part.skip : stop])
      numbers.append(len(starts[-1]))
    self._starts = np.concatenate(starts) if starts else np.empty(0, np.int64)
    self._ends = np.cumsum(numbers)  # Of each file, in examples.

  def __len__(self) -> int:
    return len(self._starts)

  def __getitem__(self, index: int) -> Example:
    path = self._paths[np.searchsorted(self._ends, index, side="right")]
    content = record(path, int(self._starts[index]))
    return self._features.deserialize_example_np(
        content, decoders=self._decoders
    )


def starts_of(path: str) -> Int64[np.ndarray, "N"]:
  """Where the records of a file start, in bytes.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if its last record is cut off.
  """
  found, place = [], 0
  with open(path, "rb", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    while place < size:
      found.append(place)
      place += _AROUND + _length(file.fileno(), place)
  if place != size:
    raise DataError(f"{path} is cut off: copy it again")
  return np.array(found, np.int64)


def _length(file: int, start: int) -> int:
  length = os.pread(file, 8, start)
  # What is missing of it makes the record end outside of the file.
  return struct.unpack("<Q", length.ljust(8, b"\xff"))[0]


def record(path: str, start: int) -> bytes:
  """The record that starts there; nobody looks at its check sums."""
  with open(path, "rb", buffering=0) as file:
    length = _length(file.fileno(), start)
    return os.pread(file.fileno(), length, start + _BEFORE)


def _indexed(paths: Sequence[str]) -> list[np.ndarray]:
  """`starts_of` each file, from the last time if nothing has changed."""
  changed = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, paths)]
  key = repr(list(zip(map(os.path.abspath, paths), changed, strict=True)))
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  folder = pathlib.Path(home).expanduser() / "perceiver"
  kept = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
  if kept.exists():
    arrays = np.load(kept)
    return np.split(arrays["starts"], arrays["splits"])
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
    found = list(threads.map(starts_of, paths))
  splits = np.cumsum([len(numbers) for numbers in found])[:-1]
  try:
    with atomic.complete(kept) as partial:
      np.savez(partial, starts=np.concatenate(found), splits=splits)
  except OSError:
    pass  # It is found again the next time.
  return found
