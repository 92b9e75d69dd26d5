"""Compiles training steps for accelerators that are not attached.

Their own compilers need no TPU and no GPU: libtpu (`pip install -e
'.[tpu-compiler]'`) and JAX's CUDA plugin (`pip install -e '.[cuda-compiler]'`).
Where they are not installed, JAX's CPU pretends to be the devices.
"""

import collections
import functools
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import re
import time
from typing import Any

import jax

from experiments import task as task_lib
from experiments.engine import record
from experiments.engine import sharding
from experiments.engine.build import build
from experiments.engine.errors import UserError
from perceiver import target as targets
from scripts.benchmarks import hlo

# Cycles a second of a TPU, by the name that JAX has for the chip: its peak rate
# over what its matrix units do in a cycle.
CLOCK = {
    "TPU v4": 1.05e9,
    "TPU v5 lite": 1.5e9,
    "TPU v5p": 1.75e9,
    "TPU v6 lite": 1.75e9,
}
# As libtpu calls the generations, and in how many dimensions chips are joined.
_TPUS = {
    "tpu_v4": ("v4", 3),
    "tpu_v5e": ("v5e", 2),
    "tpu_v5p": ("v5p", 3),
    "tpu_v6e": ("v6e", 2),
}
_LEAST = 4  # Chips of the smallest topology.

KERNELS, PRODUCTS, COPIES, REST = "kernels", "products", "copies", "rest"
# Splash attention alone, for ImageNet's latents, forward and gradient: 0.034 ms
# an example where the peak would take 0.019, by the compiler's estimate.
_KERNEL_RATE = 0.55
_COPIES = re.compile(
    r"copy|transpose|reshape|pad|slice|concatenate|dynamic-(update-)?slice"
)
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')

# What XLA has to know of a GPU. From data sheets, and what CUDA says of them.
_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {most_shared}
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""
_HOPPER: dict[str, Any] = {
    "shared": 233472,
    "most_shared": 232448,
    "cores": 132,
    "units": 128,
    "cache": 50 * 2**20,
    "clock": 1.98,
    "major": 9,
}
_GPUS: dict[str, dict[str, Any]] = {
    "a100": {
        "name": "NVIDIA A100",
        "shared": 167936,
        "most_shared": 166912,
        "cores": 108,
        "units": 64,
        "cache": 40 * 2**20,
        "clock": 1.41,
        "major": 8,
        "bandwidth": 2_039_000_000_000,
    },
    "h100": {
        **_HOPPER,
        "name": "NVIDIA H100 80GB HBM3",
        "bandwidth": 3_352_320_000_000,
    },
    "h200": {
        **_HOPPER,
        "name": "NVIDIA H200",
        "bandwidth": 4_800_000_000_000,
    },
}
_SERVER = 8  # GPUs of one.
KINDS = (*_TPUS, *_GPUS)


def why_not(kind: str) -> str:
  """The reason why a kind of device cannot be compiled for, or "".

  Args:
    kind: one of `KINDS`.
  """
  package, extra = ("libtpu", "tpu-compiler")
  if kind in _GPUS:
    package, extra = ("jax_cuda12_plugin", "cuda-compiler")
  if importlib.util.find_spec(package) is None:
    return f"{package} is not installed (pip install -e '.[{extra}]')"
  return ""


def compiler(kind: str) -> str:
  """The package that compiles for devices of a kind, and its version."""
  package = "jax-cuda12-plugin" if kind in _GPUS else "libtpu"
  return f"{package} {importlib.metadata.version(package)}"


def devices(kind: str, count: int) -> list[Any]:
  """Devices to compile for; JAX's own are then the CPU.

  Call it before anything else asks JAX for devices.

  Args:
    kind: one of `KINDS`, for which `why_not` is "".
    count: how many.

  Raises:
    UserError: if the compiler knows no so large topology.
  """
  found = _gpus(kind, count) if kind in _GPUS else _tpus(kind, count)
  jax.config.update("jax_platforms", "cpu")
  return found[:count]


def topology(kind: str, count: int) -> str:
  """The smallest topology of TPUs with so many chips, as "v5e:8x8"."""
  name, dimensions = _TPUS[kind]
  doublings = max(count - 1, _LEAST - 1).bit_length()
  sides = [2 ** ((doublings + i) // dimensions) for i in range(dimensions)]
  if dimensions == 3 and doublings == 2:
    sides = [2, 2, 1]
  return f"{name}:{'x'.join(map(str, sides))}"


def _tpus(kind: str, count: int) -> list[Any]:
  name = topology(kind, count)
  os.environ |= {
      "TPU_SKIP_MDS_QUERY": "1",
      "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # No chip is held.
      "TPU_LOG_DIR": "disabled",
      "TPU_WORKER_HOSTNAMES": "localhost",
      "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  }
  chips: Any = {}
  if name.startswith(("v4", "v5p")):  # Both cores of a chip as a device.
    chips = {"chip_config_name": "megacore", "chips_per_host_bounds": (2, 2, 1)}
  return _described("tpu", name, chips)


def _gpus(kind: str, count: int) -> list[Any]:
  numbers = _GPUS[kind]
  memory = targets.MEMORY[numbers["name"]]
  servers = -(-count // _SERVER)
  options = {
      "target_config": _GPU.format(**numbers, memory=memory),
      "topology": f"1x{servers}x{_SERVER}",
  }
  found = _described("cuda", "gpus", options)
  _attention_of(numbers["major"])
  return found


def _described(platform: str, name: str, options: Any) -> list[Any]:
  from jax.experimental import topologies  # Promised to no one.

  jax.config.update("jax_platforms", "cpu")
  try:
    found = topologies.get_topology_desc(
        platform=platform, topology_name=name, **options
    )
  except (jax.errors.JaxRuntimeError, ValueError) as e:
    raise UserError(f"the compiler has no topology {name}: {e}") from e
  return list(found.devices)


def _attention_of(capability: int) -> None:
  """Lets JAX use cuDNN's attention for GPUs of this capability.

  It asks the GPU that is attached, and there is none.
  """
  from jax._src.cudnn import fused_attention_stablehlo as attention

  def numbers(text):
    return tuple(map(int, text.split(".")))

  attention.check_compute_capability = lambda least: (
      (capability, 0) >= numbers(least)
  )
  attention.is_cuda_compute_capability_equal = lambda other: (
      (capability, 0) == numbers(other)
  )


def compile_step(built: Any) -> Any:
  """The training step for the devices of `built`, by their compiler.

  Raises:
    jax.errors.JaxRuntimeError: on a TPU, if it does not fit.
  """
  rows = functools.partial(
      jax.ShapeDtypeStruct, sharding=sharding.of_batch(built.mesh)
  )
  batch = {
      name: rows((built.config.batch_size, *x.shape), x.dtype)
      for name, x in built.task.example.items()
  }
  lowered = built.train_step().lower(built.like, batch)
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as e:
    # Without a GPU to try them out, XLA takes kernels of Triton that there are
    # not for products with an odd number of rows.
    if "output tile sizes" not in str(e):
      raise
    return lowered.compile({"xla_gpu_enable_triton_gemm": False})


def measure(
    config: task_lib.Config, on: list[Any], text: pathlib.Path | None = None
) -> dict[str, Any]:
  """The compiler's memory and time of a training step.

  Args:
    config: config of a task, with the batch of all devices.
    on: the devices: those of `devices`, or JAX's.
    text: a file for the program, to be read; None: it is not kept.

  Returns:
    "attention" (module -> implementation), "compile_seconds", and
    "needed_bytes" of a device: arguments and all else at once. If it does not
    fit ("fits" is False), a TPU's compiler tells no more. Otherwise
    "state_bytes" (the arguments alone); "collectives" (kind -> bytes of it);
    "sent_bytes" of a device and of these "beside_bytes", sent while it
    computes; "synchronous" (kind -> bytes of what is not); "products" (dtype ->
    share of the FLOPs); on TPUs "parts", the seconds of `seconds`.

  Raises:
    UserError: if the config does not fit the task, the model or the devices.
  """
  built = build(config, on)
  target = built.layout.target
  found: dict[str, Any] = {
      "attention": dict(
          built.network.attention(config.batch_size, built.layout)
      )
  }
  start = time.perf_counter()
  try:
    compiled = compile_step(built)
  except jax.errors.JaxRuntimeError as e:
    used = re.search(r"Used ([\d.]+)([KMGT]) of", str(e))
    if "RESOURCE_EXHAUSTED" not in str(e) or used is None:
      raise
    needed = float(used[1]) * 1024 ** (1 + "KMGT".index(used[2]))
    return {**found, "fits": False, "needed_bytes": int(needed)}
  found["compile_seconds"] = time.perf_counter() - start
  found["needed_bytes"], found["state_bytes"] = memory(compiled, target)
  found["fits"] = found["needed_bytes"] <= target.memory
  program = hlo.Program(compiled.as_text() or "")
  if text is not None:
    text.write_text(compiled.as_text() or "", "utf-8")
  found |= _sending(program)
  if target.platform != "cpu":  # A CPU computes in what it is fast in.
    flops = hlo.products(program)
    total = sum(flops.values())
    found["products"] = {
        dtype: count / total for dtype, count in sorted(flops.items()) if total
    }
  if target.platform == "tpu":
    found["parts"] = seconds(program, on[0].device_kind)
  return found


def memory(compiled: Any, target: targets.Target) -> tuple[int, int]:
  """The memory of a program on a device in bytes: total, and arguments."""
  analysis = compiled.memory_analysis()
  arguments = analysis.argument_size_in_bytes
  if target.platform == "tpu":
    return analysis.peak_memory_in_bytes, arguments
  results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return arguments + results + analysis.temp_size_in_bytes, arguments


def _sending(program: hlo.Program) -> dict[str, Any]:
  total: collections.Counter[str] = collections.Counter()
  synchronous: collections.Counter[str] = collections.Counter()
  sent = beside = 0.0
  for each in hlo.collectives(program):
    total[each.kind] += each.times * each.size
    sent += each.sent
    if each.is_beside:
      beside += each.sent
    else:
      synchronous[each.kind] += each.times * each.size
  return {
      "collectives": dict(total),
      "sent_bytes": int(sent),
      "beside_bytes": int(beside),
      "synchronous": dict(synchronous),
  }


def seconds(program: hlo.Program, kind: str) -> dict[str, float]:
  """The compiler's estimate of a program on a TPU, by parts.

  The sum of all instructions, those of a loop as often as it runs. Waiting for
  memory beyond what the compiler foresees, or for other chips, is not in it: it
  is for ratios. The compiler tells nothing of attention's kernel in a whole
  program: its products are counted, at `_KERNEL_RATE` of the peak.

  Args:
    program: for TPUs.
    kind: of the chip; a key of `CLOCK`.

  Returns:
    seconds of Pallas kernels ("kernels"), of fusions with a matrix product in
    them ("products"), of moving data ("copies") and of the "rest".
  """
  total: dict[str, float] = collections.defaultdict(float)
  rate = kernel_rate(kind)
  for times, inside, computation, each in program.executed():
    if inside:
      continue
    if each.operation == "custom-call" and "tpu_custom_call" in each.text:
      operands = program.operands(each, computation)
      products = kernel_flops(operands, hlo.shapes(each.type))
      total[KERNELS] += times * products / rate
      continue
    cycles = _CYCLES.search(each.text)
    if cycles is None:
      continue
    if {"convolution", "dot"} & (program.inside(each) | {each.operation}):
      part = PRODUCTS
    elif _COPIES.match(each.operation) or "dynamic_update_slice" in each.text:
      part = COPIES
    else:
      part = REST
    total[part] += times * int(cycles[1]) / CLOCK[kind]
  return dict(total)


def kernel_rate(kind: str) -> float:
  """FLOPs per second that are assumed of attention's kernels on a chip."""
  return _KERNEL_RATE * record.PEAK["bfloat16"][kind]


def kernel_flops(operands: list[str], results: list[list[int]]) -> float:
  """FLOPs of a call of JAX's flash or splash attention, forward or backward.

  Args:
    operands: their types. Arrays of four axes, [B, H, rows, features], are
      queries, keys and values, and of the backward pass what was read and its
      gradient too. A matrix unit takes features in multiples of 128.
    results: shapes; of the backward pass those of more than three axes are
      gradients of keys and values, of queries, or of all three.
  """
  arrays = [hlo.shape(kind) for kind in operands]
  q, k, v, *more = [each for each in arrays if len(each) == 4]
  features, of_values = (-(-each[3] // 128) * 128 for each in (q, v))
  # Products over features of queries, and over those of values.
  over = 1, 1
  if more:
    gradients = sum(len(each) > 3 for each in results)
    over = {1: (2, 1), 2: (2, 2), 3: (3, 2)}[gradients]
  scores = 2 * math.prod(q[:3]) * k[2]
  return scores * (over[0] * features + over[1] * of_values)
