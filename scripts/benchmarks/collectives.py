"""What a compiled program sends between devices, counted from its text."""

import collections
from collections.abc import Iterator
import math
import re

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
_BITS = re.compile(r"\d+")
_BEGIN = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(
    r"(?:body|calls|to_apply|branch_computations)=\{?(%?[\w.\-]+"
    r"(?:, %?[\w.\-]+)*)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def exchanged(program: str) -> dict[str, int]:
  """Bytes of the results of each kind of collective, on one device.

  Args:
    program: optimized HLO, `compiled.as_text()`. What a loop sends counts as
      often as the loop runs, where the compiler knows how often.

  Returns:
    kind -> bytes, of those that there are.
  """
  inside: dict[str, list[str]] = {}
  entry = name = ""
  for line in program.splitlines():
    begin = _BEGIN.match(line)
    if begin:
      name = begin[2]
      inside[name] = []
      entry = name if begin[1] else entry
    elif name:
      inside[name].append(line)
  total: collections.Counter[str] = collections.Counter()

  def count(computation: str, times: int) -> None:
    for line in inside.get(computation, ()):
      found = _COLLECTIVE.search(line)
      if found:
        shapes = list(_shapes(found[1]))
        # What is started has its operands beside its results.
        total[found[2]] += times * sum(shapes[len(shapes) // 2 * bool(found[3]) :])
      trips = _TRIPS.search(line)
      for names in _CALLED.findall(line):
        for called in names.split(", "):
          count(called.lstrip("%"), times * (int(trips[1]) if trips else 1))

  count(entry, 1)
  return dict(total)


def _shapes(text: str) -> Iterator[int]:
  """Bytes of each array of a type, as in "(f32[3,5]{1,0}, bf16[7])"."""
  for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", text):
    bits = _BITS.search(dtype)
    size = max(int(bits[0]) // 8, 1) if bits else 1  # "pred" has none.
    yield size * math.prod(int(n) for n in shape.split(",") if n)
