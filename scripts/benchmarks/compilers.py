"""Programs for TPUs that are not there, and what their compiler says of them.

The compiler is libtpu's: install the package `libtpu` of the version that JAX
names (`pip install jax[tpu]`). No TPU is needed.
"""

import collections
from collections.abc import Iterator
import importlib.util
import os
import re
from typing import Any

import jax

from experiments.engine.errors import UserError

# Cycles a second, by the name that JAX has for the chip.
CLOCK = {"TPU v4": 1.05e9, "TPU v5 lite": 1.5e9, "TPU v5p": 1.75e9}

KERNELS, PRODUCTS, COPIES, REST = "kernels", "products", "copies", "rest"
NOT_ESTIMATED = "kernels_not_estimated"
_PRODUCTS = ("convolution", "dot")
_COPIES = re.compile(
    r"copy|transpose|reshape|pad|slice|concatenate|dynamic-(update-)?slice"
)
_BEGIN = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$", re.DOTALL)
_OPERATION = re.compile(r"^(?:\(.*?\)|\S+) ([\w\-]+)\(", re.DOTALL)
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_LIMIT = re.compile(r" s32\[\]\S* constant\((\d+)\)")


def tpu(topology: str) -> list[Any]:
  """The chips of a topology, to compile for; JAX's own are then the CPU.

  Call it before anything else asks JAX for devices.

  Args:
    topology: kind and shape, such as "v5e:2x2" or "v4:4x4x4".

  Raises:
    UserError: if libtpu is not installed or does not know the topology.
  """
  from jax.experimental import topologies  # Promised to no one.

  if importlib.util.find_spec("libtpu") is None:
    raise UserError("the package libtpu, a TPU's compiler, is not installed")
  jax.config.update("jax_platforms", "cpu")
  os.environ |= {
      "TPU_SKIP_MDS_QUERY": "1",
      "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # No chip is held.
      "TPU_LOG_DIR": "disabled",
      "TPU_WORKER_HOSTNAMES": "localhost",
      "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  }
  chips: Any = {}
  if topology.startswith(("v4", "v5p")):  # Both cores of a chip as a device.
    chips = {"chip_config_name": "megacore", "chips_per_host_bounds": (2, 2, 1)}
  try:
    found = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, **chips
    )
  except (jax.errors.JaxRuntimeError, ValueError) as e:
    raise UserError(f"libtpu has no topology {topology}: {e}") from e
  return list(found.devices)


def seconds(compiled: Any, kind: str) -> dict[str, float]:
  """The compiler's estimate of a program on a TPU, by parts.

  The sum of all instructions, those of a loop as often as it runs. Waiting for
  memory beyond what the compiler foresees, or for other chips, is not in it: it
  is for ratios.

  Args:
    compiled: a program for devices of `tpu`.
    kind: of the chip; a key of `CLOCK`.

  Returns:
    seconds of Pallas kernels ("kernels"), of fusions with a matrix product in
    them ("products"), of moving data ("copies") and of the "rest";
    "kernels_not_estimated" counts calls of Pallas kernels of which the compiler
    tells no time.
  """
  total: collections.Counter[str] = collections.Counter()
  unknown = 0
  program = _computations(compiled.as_text() or "")
  for times, operation, text, inside in _executed(program):
    cycles = _CYCLES.search(text)
    if cycles is None:
      if operation == "custom-call" and "tpu_custom_call" in text:
        unknown += times
      continue
    if operation == "custom-call":
      part = KERNELS
    elif inside & set(_PRODUCTS):
      part = PRODUCTS
    elif _COPIES.match(operation) or "dynamic_update_slice" in text:
      part = COPIES
    else:
      part = REST
    total[part] += times * int(cycles[1])
  found = {part: cycles / CLOCK[kind] for part, cycles in total.items()}
  return {**found, NOT_ESTIMATED: unknown} if unknown else found


def _computations(text: str) -> dict[str, list[tuple[str, str]]]:
  """Name -> (operation, text) of each instruction; "" is the entry."""
  found: dict[str, list[list[str]]] = {}
  name = None
  for line in text.splitlines():
    begin = _BEGIN.match(line)
    if begin and not line.startswith(" "):
      name = "" if begin[1] else begin[2]
      found[name] = []
    elif line == "}":
      name = None
    elif name is not None:
      if _INSTRUCTION.match(line):
        found[name].append([line])
      elif found[name]:  # Metadata may have lines of its own.
        found[name][-1].append(line)

  def parsed(lines):
    text = "\n".join(lines)
    match = _INSTRUCTION.match(text)
    operation = _OPERATION.match(match[2]) if match else None
    return (operation[1] if operation else "", text)

  return {n: [parsed(lines) for lines in all_] for n, all_ in found.items()}


def _executed(program, computation="", times=1) -> Iterator[Any]:
  """(how often, operation, text, operations inside) of each instruction."""
  for operation, text in program.get(computation, ()):
    called = _CALLED.findall(text)
    for branches in _BRANCHES.findall(text):
      called += [name.strip().lstrip("%") for name in branches.split(",")]
    if operation == "while":
      yield from _executed(program, called[0], times * _trips(program, text))
    elif operation in ("call", "conditional"):
      for name in called:
        yield from _executed(program, name, times)
    else:
      yield times, operation, text, _inside(program, called)


def _inside(program, called) -> set[str]:
  found = set()
  for name in called:
    for operation, text in program.get(name, ()):
      found |= {operation} | _inside(program, _CALLED.findall(text))
  return found


def _trips(program, text: str) -> int:
  """How often a loop runs: as is known, or up to its condition's constant."""
  known = _TRIPS.search(text)
  if known:
    return int(known[1])
  condition = _CONDITION.search(text)
  limits = [
      int(limit[1])
      for _, line in program.get(condition[1] if condition else "", ())
      if (limit := _LIMIT.search(line))
  ]
  return max(limits, default=1)
