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

import numpy as np

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
      ValueError: if one is cut off, or has not as many records as TFDS wrote.
    """
    parts = builder.info.splits[split].file_instructions
    self._features, self._decoders = builder.info.features, decoders
    self._paths = [str(part.filename) for part in parts]
    all_starts = _indexed(self._paths)
    starts, numbers = [], []
    for part, found in zip(parts, all_starts, strict=True):
      if len(found) != part.examples_in_shard:
        raise ValueError(
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
    with open(path, "rb", buffering=0) as file:
      record = _content(file.fileno(), int(self._starts[index]))
    return self._features.deserialize_example_np(
        record, decoders=self._decoders
    )


def starts(path: str) -> np.ndarray:
  """Where the records of a file start, in bytes, int64.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if its last record is cut off.
  """
  found, place = [], 0
  with open(path, "rb", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    while place < size:
      found.append(place)
      place += _AROUND + _length(file.fileno(), place)
  if place != size:
    raise ValueError(f"{path} is cut off: copy it again")
  return np.array(found, np.int64)


def _length(file: int, start: int) -> int:
  length = os.pread(file, 8, start)
  # What is missing of it makes the record end outside of the file.
  return struct.unpack("<Q", length.ljust(8, b"\xff"))[0]


def _content(file: int, start: int) -> bytes:
  return os.pread(file, _length(file, start), start + _BEFORE)


def _indexed(paths: Sequence[str]) -> list[np.ndarray]:
  """`starts` of each file, from the last time if nothing has changed."""
  changed = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, paths)]
  key = repr(list(zip(map(os.path.abspath, paths), changed, strict=True)))
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  folder = pathlib.Path(home).expanduser() / "perceiver"
  kept = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
  if kept.exists():
    arrays = np.load(kept)
    return np.split(arrays["starts"], arrays["splits"])
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
    found = list(threads.map(starts, paths))
  splits = np.cumsum([len(numbers) for numbers in found])[:-1]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    # Other processes see all of it or nothing.
    part = kept.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, starts=np.concatenate(found), splits=splits)
    part.replace(kept)
  except OSError:
    pass  # It is found again the next time.
  return found
