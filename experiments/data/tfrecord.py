"""TFRecord files that TFDS has written, by index and without TensorFlow.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord for the format.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import struct
from typing import Any

import google_crc32c
from jaxtyping import Int64
import numpy as np

from experiments.data import atomic
from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.pipeline import Example

# A record is its length in 8 bytes, its check sum in 4, itself, and another 4.
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
      split: split of the data set; slices such as "train[:80%]" too.
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
    DataError: if its last record is cut off, or a length is damaged.
  """
  found, place = [], 0
  with errors.opened(path) as file:
    size = os.fstat(file.fileno()).st_size
    while place < size:
      found.append(place)
      place += _AROUND + _length(file.fileno(), place, size, path)
  return np.array(found, np.int64)


def record(path: str, start: int) -> bytes:
  """The record that starts there.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if the record is damaged.
  """
  with open(path, "rb", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    length = _length(file.fileno(), start, size, path)
    content = os.pread(file.fileno(), length + 4, start + _BEFORE)
  _check(content[:length], content[length:], path, start)
  return content[:length]


def _length(file: int, start: int, size: int, path: str) -> int:
  """How long a record is, which is all in its file."""
  head = os.pread(file, _BEFORE, start)
  length = int.from_bytes(head[:8], "little")
  if len(head) == _BEFORE:
    _check(head[:8], head[8:], path, start)
  if len(head) < _BEFORE or start + _AROUND + length > size:
    raise DataError(f"{path} is cut off: copy it again")
  return length


def _check(content: bytes, expected: bytes, path: str, start: int) -> None:
  """Compares with a masked CRC-32C."""
  crc = google_crc32c.value(content)
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
  if struct.pack("<I", masked) != expected:
    raise DataError(
        f"{path}: the record at byte {start} is damaged: copy the file again"
    )


def _indexed(paths: Sequence[str]) -> list[np.ndarray]:
  """`starts_of` each file, from the last time if nothing has changed."""
  changed = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, paths)]
  key = repr(list(zip(map(os.path.abspath, paths), changed, strict=True)))
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  folder = pathlib.Path(home).expanduser() / "perceiver"
  kept = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
  # A file that is damaged is made again.
  with contextlib.suppress(DataError, OSError), errors.naming(kept):
    with errors.opened(kept) as file, np.load(file) as arrays:
      found = np.split(arrays["starts"], arrays["splits"])
    if len(found) == len(paths) and found[0].dtype == np.int64:
      return found
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
    found = list(threads.map(starts_of, paths))
  splits = np.cumsum([len(numbers) for numbers in found])[:-1]
  try:
    with atomic.complete(kept) as partial:
      np.savez(partial, starts=np.concatenate(found), splits=splits)
  except OSError:
    pass  # It is found again the next time.
  return found
