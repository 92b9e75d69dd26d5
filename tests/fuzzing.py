"""Damaged files for tests of readers, always the same ones."""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import resource

import numpy as np


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
  """So many damaged copies of a file.

  Some bits flipped; cut off; a part doubled, dropped, zeroed or exchanged with
  another; numbers, and runs of digits, set to what sizes overflow at.
  """
  rng = np.random.default_rng(seed)
  kinds = (_flip, _cut, _repeat, _drop, _zero, _swap, _number, _digits)
  for _ in range(count):
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
      kind = kinds[rng.integers(len(kinds))]
      damaged = kind(rng, damaged) if damaged else damaged
    yield bytes(damaged)


def tracebacks(
    read: Callable[[pathlib.Path], object],
    file: pathlib.Path,
    count: int,
    allowed: tuple[type[Exception], ...],
    seed: int = 0,
) -> list[str]:
  """What a reader of damaged copies of a file raised that it may not raise.

  Args:
    read: reads a file, whole.
    file: a good one; the damaged ones take its place.
    count: how many.
    allowed: the errors that a reader may raise; each is one line that names the
      file, or its folder.
    seed: which mutations.
  """
  good, wrong = file.read_bytes(), []
  try:
    for i, damaged in enumerate(mutations(good, count, seed)):
      # Not the same inode: a reader may have mapped the one before.
      file.unlink()
      file.write_bytes(damaged)
      try:
        read(file)
      except allowed as error:
        text = str(error)
        named = file.name in text or str(file.parent) in text
        if "\n" in text or not named or len(text) > 2000:
          wrong.append(f"{i}: no line that names the file: {error!r:.300}")
      except Exception as error:
        wrong.append(f"{i}: {type(error).__name__}: {error!s:.200}")
  finally:
    file.unlink(missing_ok=True)
    file.write_bytes(good)
  return wrong


def peak_mib() -> float:
  """The most memory that this process has had so far, in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(rng, data, most=64):
  """Where a part begins and ends."""
  start = int(rng.integers(len(data)))
  # Headers are where sizes are.
  if rng.random() < 0.4:
    start = int(rng.integers(min(len(data), 512)))
  return start, min(len(data), start + int(rng.integers(1, most)))


def _flip(rng, data):
  for _ in range(rng.integers(1, 9)):
    start, _ = _place(rng, data)
    data[start] ^= 1 << int(rng.integers(8))
  return data


def _cut(rng, data):
  return data[: int(rng.integers(len(data)))]


def _repeat(rng, data):
  start, end = _place(rng, data)
  return data[:end] + data[start:end] * int(rng.integers(1, 9)) + data[end:]


def _drop(rng, data):
  start, end = _place(rng, data)
  return data[:start] + data[end:]


def _zero(rng, data):
  start, end = _place(rng, data)
  data[start:end] = bytes(end - start)
  return data


def _swap(rng, data):
  start, end = _place(rng, data)
  other, _ = _place(rng, data)
  part = data[other : other + end - start]
  data[start : start + len(part)] = part
  return data


def _number(rng, data):
  values = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62)
  value = int(rng.choice(np.array(values, np.uint64)))
  size = int(rng.choice([1, 2, 4, 8]))
  order = "little" if rng.random() < 0.5 else "big"
  start, _ = _place(rng, data)
  written = (value % (1 << 8 * size)).to_bytes(size, order)
  data[start : start + size] = written
  return data


def _digits(rng, data):
  """Another number in a text."""
  places = [i for i, c in enumerate(data[:4096]) if chr(c).isdigit()]
  if not places:
    return _flip(rng, data)
  start = places[int(rng.integers(len(places)))]
  texts = (b"-1", b"99999999999", b"1e39", b"nan", b"1" * 400, b"\xe9", b'"')
  written = texts[int(rng.integers(len(texts)))]
  return data[:start] + written + data[start + 1 :]
