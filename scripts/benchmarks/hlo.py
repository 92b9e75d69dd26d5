"""Parses an optimized program (HLO).

The text is that of `compiled.as_text()`, as compilers for CPUs, GPUs and TPUs
write it.
"""

import collections
from collections.abc import Iterator
import functools
import json
import math
import re
from typing import NamedTuple

import numpy as np

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
# All that a call of `executed` enters, and where it is named.
_CALLS = {
    "fusion": ("calls",),
    "call": ("to_apply", "calls"),
    "async-start": ("calls",),
    "conditional": (
        "branch_computations",
        "true_computation",
        "false_computation",
    ),
}
_BEGIN = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$", re.DOTALL)
_OPERATION = re.compile(r"([\w\-]+)\(")
_COMMENT = re.compile(r"/\*.*?\*/")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_LIMIT = re.compile(r"constant\((\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")
_BITS = re.compile(r"\d+")


class Instruction(NamedTuple):
  """A line of a program."""

  name: str
  type: str  # Of its result: "bf16[8,128]{1,0}", or a tuple of such.
  operation: str
  text: str  # All of it.


class Executed(NamedTuple):
  """An executed instruction."""

  times: int  # How often it runs.
  inside: tuple[str, ...]  # Fusions and asynchronous calls around it.
  computation: str  # The one that it is part of.
  instruction: Instruction


class Collective(NamedTuple):
  """A collective operation between devices."""

  kind: str  # One of `COLLECTIVES`.
  times: int
  size: int  # bytes of the whole: gathered, or to be summed, on one device
  devices: int  # that take part in it
  is_beside: bool  # The device computes meanwhile.

  @property
  def sent(self) -> float:
    """Bytes that a device sends, where they go around in a ring."""
    rounds = {"all-reduce": 2, "collective-permute": 0}.get(self.kind, 1)
    if not rounds:
      return self.times * self.size
    share = (self.devices - 1) / self.devices
    return self.times * self.size * rounds * share


class Program:
  """A program's computations: name -> name -> instruction."""

  def __init__(self, text: str):
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.entry = ""
    devices = re.search(r"num_partitions=(\d+)", text[:100_000])
    self.devices = int(devices[1]) if devices else 1
    lines: list[str] | None = None
    name = ""
    for line in text.splitlines():
      begin = _BEGIN.match(line) if not line.startswith(" ") else None
      if begin and not line.startswith("HloModule"):
        name, lines = begin[2], []
        self.entry = name if begin[1] else self.entry
      elif line == "}" and lines is not None:
        found = map(_parsed, lines)
        self.computations[name] = {each.name: each for each in found if each}
        lines = None
      elif lines is not None:
        if _INSTRUCTION.match(line):
          lines.append(line)
        elif lines:  # Metadata may have lines of its own.
          lines[-1] += "\n" + line

  def executed(self) -> Iterator[Executed]:
    """All instructions that run, those inside of fusions too."""
    yield from self._executed(self.entry, 1, ())

  def _executed(self, name, times, inside) -> Iterator[Executed]:
    for each in self.computations.get(name, {}).values():
      yield Executed(times, inside, name, each)
      if each.operation == "while":
        (body,) = _named(each.text, "body")
        yield from self._executed(body, times * self._trips(each.text), inside)
      for key in _CALLS.get(each.operation, ()):
        is_around = each.operation in ("fusion", "async-start")
        for called in _named(each.text, key):
          around = (*inside, each.name) if is_around else inside
          yield from self._executed(called, times, around)

  def inside(self, each: Instruction) -> set[str]:
    """Operations inside of a fusion."""
    found: set[str] = set()
    for called in _named(each.text, "calls"):
      for other in self.computations.get(called, {}).values():
        found |= {other.operation} | self.inside(other)
    return found

  def _trips(self, text: str) -> int:
    """The number of iterations of a loop, from its condition if unknown."""
    known = _TRIPS.search(text)
    if known:
      return int(known[1])
    return max(self._constants(*_named(text, "condition")), default=1)

  def _constants(self, name: str) -> Iterator[int]:
    for each in self.computations.get(name, {}).values():
      if each.operation == "constant" and (limit := _LIMIT.search(each.text)):
        yield int(limit[1])
      for key in ("calls", "to_apply"):
        for called in _named(each.text, key):
          yield from self._constants(called)

  def operands(self, each: Instruction, computation: str) -> list[str]:
    """The types of an instruction's operands."""
    known = self.computations[computation]
    names = self.operand_names(each)
    return [known[name].type for name in names if name in known]

  def operand_names(self, each: Instruction) -> list[str]:
    """Names of what an instruction reads."""
    inner = each.text.split(f" {each.operation}(", 1)[1]
    return re.findall(r"%([\w.\-]+)", _COMMENT.sub("", _until_closed(inner)))


def exchanged(text: str) -> dict[str, int]:
  """Bytes of each kind of collective, on one device.

  Args:
    text: of a program.

  Returns:
    kind -> bytes of what is gathered, of what is summed, and so on, as often as
    it is; of those that there are.
  """
  total: collections.Counter[str] = collections.Counter()
  for each in collectives(Program(text)):
    total[each.kind] += each.times * each.size
  return dict(total)


def collectives(program: Program) -> Iterator[Collective]:
  """The collectives of a program; a start and its end count as one."""
  seen = set()
  for times, inside, computation, each in program.executed():
    kind = each.operation.removesuffix("-start")
    if kind not in COLLECTIVES:
      continue
    is_started = each.operation != kind
    is_beside = is_started or _is_asynchronous(program, computation, inside)
    # Parts of one fused asynchronous collective each have it inside.
    channel = re.search(r"channel_id=(\d+)", each.text)
    if is_beside and channel:
      if (channel[1], times) in seen:
        continue
      seen.add((channel[1], times))
    result = each.type
    if is_started and kind != "all-reduce":  # Operands are before results.
      result = _elements(result)[1]
    devices = _group(each.text) or program.devices
    size = sum(map(_bytes, _arrays(result)))
    if kind == "reduce-scatter":
      size *= devices
    # A TPU's sum of which each device keeps a part.
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
      kind = "reduce-scatter"
    yield Collective(kind, times, size, devices, is_beside)


def _is_asynchronous(program, computation, inside) -> bool:
  if "async" in computation or any("async" in name for name in inside):
    return True
  return any(
      "AsyncCollective" in each.text
      for each in program.computations[computation].values()
      if each.operation == "custom-call"
  )


def products(program: Program) -> dict[str, float]:
  """FLOPs of matrix products: dtype of the wider operand -> FLOPs."""
  total: dict[str, float] = collections.defaultdict(float)
  for times, _, computation, each in program.executed():
    count = _flops(program, computation, each)
    if count:
      types = program.operands(each, computation)[:2]
      arrays = [next(_arrays(kind)) for kind in types]
      dtype = max((dtype for dtype, _ in arrays), key=_bits)
      total[dtype] += times * count
  return dict(total)


# What only names memory, or whose parts are counted by themselves.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
    *("while", "conditional", "call", "after-all", "opt-barrier"),
}


def traffic(program: Program) -> float:
  """Bytes that instructions read and write: a fusion's, those around it.

  Of an array of which a fusion takes, or replaces, slices alone, those count.
  A kernel that reads its operands more than once is counted as if it did so
  once.
  """
  total = 0.0
  for times, inside, computation, each in program.executed():
    if inside or each.operation in _FREE or each.operation.endswith("-done"):
      continue
    types = program.operands(each, computation)
    sizes = [_size(kind) for kind in types]
    moved = _size(each.type) + sum(sizes)
    if each.operation == "dynamic-slice":
      moved = 2 * _size(each.type)
    elif each.operation == "dynamic-update-slice":
      moved = 2 * sizes[1]
    elif each.operation == "fusion":
      moved = _of_fusion(program, each, sizes)
    total += times * moved
  return total


def _of_fusion(program: Program, fusion: Instruction, sizes) -> float:
  (called,) = _named(fusion.text, "calls")
  body = program.computations[called]
  users = collections.defaultdict(list)
  for each in body.values():
    for place, name in enumerate(program.operand_names(each)):
      users[name].append((each.operation, place, each))
  moved = float(_size(fusion.type))
  for each in body.values():
    number = re.search(r" parameter\((\d+)\)", each.text)
    if number is None:
      continue
    uses = {use[:2] for use in users[each.name]}
    if uses == {("dynamic-slice", 0)}:
      moved += sum(_size(user.type) for *_, user in users[each.name])
    elif uses == {("dynamic-update-slice", 0)} and each.type == fusion.type:
      (*_, update), *_ = users[each.name]
      new = body[program.operand_names(update)[1]]
      moved += 2 * _size(new.type) - _size(fusion.type)
    else:
      moved += sizes[int(number[1])]
  return moved


def _size(kind: str) -> int:
  return sum(map(_bytes, _arrays(kind)))


def _flops(program: Program, computation: str, each: Instruction) -> float:
  """Of a matrix product or convolution; 0 of anything else."""
  operation = each.operation
  is_library = operation == "custom-call" and "__cublas" in each.text
  if operation not in ("dot", "convolution") and not is_library:
    return 0
  types = program.operands(each, computation)
  if len(types) < 2:
    return 0
  (_, left), (_, right) = (next(_arrays(kind)) for kind in types[:2])
  _, out = next(_arrays(each.type))
  if operation == "convolution":
    return 2 * math.prod(out) * _taps(each.text, left, right, out)
  if is_library:
    axes = re.search(r'"lhs_contracting_dimensions":(\[[^\]]*\])', each.text)
    contracted = map(int, json.loads(axes[1])) if axes else []
  else:
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.text)
    contracted = map(int, axes[1].split(",")) if axes and axes[1] else []
  return 2 * math.prod(out) * math.prod(left[i] for i in contracted)


def _taps(text: str, left, right, out) -> float:
  """Products that are summed for an output of a convolution, on average.

  A TPU's batched products are convolutions: axes of the batch are of the window
  and most of what the window meets is padding, which is left out here.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", text)
  if labels is None:
    return 0
  of_left, of_right, of_out = labels.groups()
  total = float(right[of_right.index("i")])
  window = re.search(r"window=\{([^}]*)\}", text)
  fields = dict(re.findall(r"(\w+)=(\S+)", window[1] if window else ""))
  sizes = fields["size"].split("x") if "size" in fields else []
  for axis, size in enumerate(map(int, sizes)):
    get = lambda key, axis=axis: int(
        fields[key].split("x")[axis].split("_")[0] if key in fields else 1
    )
    low = get("pad") if "pad" in fields else 0
    dilated = get("lhs_dilate")
    read = left[of_left.index(str(axis))]
    outputs = out[of_out.index(str(axis))]
    position = (
        get("stride") * np.arange(outputs)[:, None]
        + get("rhs_dilate") * np.arange(size)
        - low
    )
    is_real = (position >= 0) & (position % dilated == 0)
    is_real &= position // dilated < read
    total *= is_real.sum() / outputs
  return total


def _parsed(text: str) -> Instruction | None:
  match = _INSTRUCTION.match(text)
  if match is None:
    return None
  rest = match[2]
  kind = rest[: _type_length(rest)]
  operation = _OPERATION.match(rest[len(kind) :].strip())
  return Instruction(match[1], kind, operation[1] if operation else "", text)


def _type_length(text: str) -> int:
  """Characters of the type that a text begins with."""
  if text.startswith("("):
    return len(_until_closed(text[1:])) + 2
  return len(text.split(" ", 1)[0])


def _until_closed(text: str) -> str:
  """A text up to the parenthesis that was opened before it."""
  depth = 1
  for i, sign in enumerate(text):
    depth += (sign == "(") - (sign == ")")
    if depth == 0:
      return text[:i]
  return text


def _elements(kind: str) -> list[str]:
  """The types in a tuple."""
  found, depth, start = [], 0, 1
  for i, sign in enumerate(kind):
    depth += (sign in "([{") - (sign in ")]}")
    if (sign == "," and depth == 1) or depth == 0:
      found.append(kind[start:i])
      start = i + 1
  return found


def _named(text: str, key: str) -> list[str]:
  """Computations that an instruction names: key=%one or key={%one, %two}."""
  match = re.search(rf"\b{key}=(?:\{{([^}}]*)\}}|(%?[\w.\-]+))", text)
  if match is None:
    return []
  names = (match[1] or match[2]).split(",")
  return [name.strip().lstrip("%") for name in names]


def _arrays(kind: str) -> Iterator[tuple[str, list[int]]]:
  """(dtype, shape) of each array of a type."""
  for dtype, shape in _ARRAY.findall(_COMMENT.sub("", kind)):
    yield dtype, [int(n) for n in shape.split(",") if n]


def shape(kind: str) -> list[int]:
  """Sizes of the first array of a type."""
  return next(_arrays(kind), ("", []))[1]


def shapes(kind: str) -> list[list[int]]:
  """Sizes of each array of a type."""
  return [sizes for _, sizes in _arrays(kind)]


def _bytes(array: tuple[str, list[int]]) -> int:
  dtype, shape = array
  return max(_bits(dtype) // 8, 1) * math.prod(shape)


@functools.cache
def _bits(dtype: str) -> int:
  bits = _BITS.search(dtype)
  return int(bits[0]) if bits else 8  # "pred" has none.


def _group(text: str) -> int:
  """How many devices take part; 0: all."""
  # Groups as axes of a mesh: mesh['x'=4,'y'=2] {'x'}.
  axes = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text)
  if axes:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
    return math.prod(int(sizes[name]) for name in re.findall(r"\w+", axes[2]))
  counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", text)
  if counted:
    return int(counted[2])
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
  return len(listed[1].split(",")) if listed else 0
