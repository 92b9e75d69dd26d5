"""Which queries are shown: latents by number, outputs by place."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from experiments.data.text import tokenizers
from experiments.engine.errors import UserError
from experiments.inference import attention_texts
from experiments.task import Grids
from experiments.task import Subject

NUM_SHOWN = 8  # Latents or outputs, if nobody says which.


# Where an output lies on the input.
SAME_PLACE = {
    "flow": "frames",
    "video": "video",
    "audio": "audio",
    "text": "text",
}


Chosen = list[int] | str  # Indices, or "mean".


@dataclasses.dataclass(frozen=True)
class Options:
  """The selection for a figure."""

  module: str = "encoder"
  heads: str = "all"
  latents: str | None = None
  outputs: str | None = None
  layer: int = 0
  block: int = 0
  scores: bool = False
  one_scale: bool = False
  npz: bool = False
  tiff: bool = False


def evenly(items: Sequence[int], count: int = NUM_SHOWN) -> list[int]:
  """Evenly spaced indices, or all if there are fewer."""
  count = min(count, len(items))
  return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def parse(
    flag: str,
    value: str | None,
    count: int,
    default: list[int] | None = None,
) -> Chosen:
  """The selected indices of `count`."""
  if value == "mean":
    return "mean"
  if value is None and default is not None:
    return default
  if value in (None, "all"):
    return list(range(count))
  chosen = [_index(flag, word) for word in value.split(",")]
  for i in chosen:
    if not 0 <= i < count:
      raise UserError(f"--{flag}={i}: there are {count}, from 0 on")
  return chosen


def _index(flag: str, word: str) -> int:
  try:
    return int(word)
  except ValueError:
    message = f"--{flag}: {word!r} is neither a number nor all nor mean"
    raise UserError(message) from None


def some_outputs(subject: Subject) -> list[int]:
  """Outputs that are shown by default: masked bytes first, else all over."""
  if subject.ids is not None and "text" in subject.outputs:
    masked = np.flatnonzero(subject.ids == tokenizers.MASK).tolist()
    return evenly(masked or range(len(subject.ids)))
  count = NUM_SHOWN if len(subject.outputs) == 1 else 3
  chosen = []
  for part, dims in subject.outputs.items():
    start = _start(subject.outputs, part)
    chosen += [start + i for i in _diagonal(dims, count)]
  return chosen


def _diagonal(dims: Sequence[int], count: int) -> list[int]:
  """Flat indices of elements from one corner of a grid to the other."""
  if not dims:
    return [0]
  steps = [evenly(range(n), min(count, max(dims))) for n in dims]
  length = max(map(len, steps))
  places = [
      [axis[i * len(axis) // length] for axis in steps] for i in range(length)
  ]
  return [int(np.ravel_multi_index(place, dims)) for place in places]


def parse_outputs(
    subject: Subject, value: str | None, default: list[int]
) -> Chosen:
  """Indices of the output queries that are requested."""
  total = sum(math.prod(dims) for dims in subject.outputs.values())
  if value in ("all", "mean", None):
    return parse("outputs", value, total, default)
  chosen = []
  for word in value.split(","):
    part, _, place = word.partition(":")
    if ":" in word and part not in subject.outputs:
      raise UserError(f"--outputs={word}: there is {list(subject.outputs)}")
    if part not in subject.outputs:
      chosen += parse("outputs", word, total)
      continue
    dims = subject.outputs[part]
    at = [_index("outputs", n) for n in place.split("x")] if place else []
    if len(at) != len(dims) or not all(
        i in range(n) for i, n in zip(at, dims, strict=True)
    ):
      grid = "x".join(map(str, dims))
      raise UserError(f"--outputs={word}: {part} is a grid of {grid or 'one'}")
    inside = int(np.ravel_multi_index(at, dims)) if dims else 0
    chosen.append(_start(subject.outputs, part) + inside)
  return chosen


def _start(layout: Grids, part: str) -> int:
  """The index of a part's first element."""
  before = list(layout).index(part)
  return sum(math.prod(dims) for dims in list(layout.values())[:before])


def _place(layout: Grids, i: int) -> tuple[str, tuple[int, ...]]:
  """The part an element belongs to, and where in it."""
  for part, dims in layout.items():
    if i < math.prod(dims):
      return part, tuple(map(int, np.unravel_index(i, dims))) if dims else ()
    i -= math.prod(dims)
  raise AssertionError("no such element")


def points_of(subject: Subject, options: Options) -> dict[str, list[int]]:
  """Indices of decoded elements in each part."""
  chosen = parse_outputs(subject, options.outputs, some_outputs(subject))
  if isinstance(chosen, str) or len(chosen) > 1000:
    raise UserError("--outputs: name at most 1000, like video:3x100x120,label")
  points: dict[str, list[int]] = {part: [] for part in subject.outputs}
  for i in chosen:
    part, _ = _place(subject.outputs, i)
    points[part].append(i - _start(subject.outputs, part))
  return points


def flat_of(points, outputs: Grids) -> Iterator[list[int]]:
  """Chosen elements of each part as indices of all outputs."""
  for part, chosen in points.items():
    yield [_start(outputs, part) + i for i in chosen]


def rows_of(points) -> list[int]:
  """Rows of the query array; there is at least one of each part."""
  rows, start = [], 0
  for chosen in points.values():
    rows += [start + i for i in range(len(chosen))]
    start += max(len(chosen), 1)
  return rows


def name_of(subject: Subject, i: int) -> str:
  """An output, for people."""
  part, at = _place(subject.outputs, i)
  name = f"output {part} {'x'.join(map(str, at))}".strip()
  if part != "text" or subject.ids is None:
    return name
  pieces = attention_texts.pieces(subject.ids)
  (shown,) = [p.shown for p in pieces if p.start <= at[0] < p.stop]
  return f"{name} ({shown})"


def mark_of(subject: Subject, i: int, part: str) -> Any:
  """The place of an output on a part of the input; None: not on it."""
  of_output, at = _place(subject.outputs, i)
  if SAME_PLACE.get(of_output) != part:
    return None
  if part == "text":
    return at[0]
  dims = subject.outputs[of_output]
  *frame, x = ((n + 0.5) / size for n, size in zip(at, dims, strict=True))
  if part == "audio":
    return x
  *frame, y = frame
  # Flow starts in the first frame.
  t = int(frame[0] * subject.inputs[part][0]) if frame else 0
  return t, y, x
