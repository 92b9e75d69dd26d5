"""Estimates a training step on accelerators that are not attached.

The step is compiled for as many devices as requested, so what each keeps and
sends is what a compiler plans, not a formula.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import rich.table

from experiments import task as task_lib
from experiments.engine import build
from experiments.engine import record
from experiments.engine.errors import UserError
from perceiver import target as targets
from scripts.benchmarks import compilers


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """A device, from its maker's data sheet."""

  kind: str  # As JAX calls it: a key of `record.PEAK` and `targets.MEMORY`.
  near: float  # bytes a second, each way, to devices beside it
  near_devices: int  # how many those are, itself among them
  far: float  # bytes a second, each way, to all others

  @property
  def memory(self) -> int:
    """Bytes."""
    return targets.MEMORY[self.kind]


ACCELERATORS = {
    # NVLink within a server of 8; one network adapter a GPU.
    "a100": Accelerator("NVIDIA A100", 300e9, 8, 25e9),
    "h100": Accelerator("NVIDIA H100 80GB HBM3", 450e9, 8, 50e9),
    "h200": Accelerator("NVIDIA H200", 450e9, 8, 50e9),
    # All chips of a pod are on one interconnect.
    "tpu_v4": Accelerator("TPU v4", 150e9, 4096, 150e9),
    "tpu_v5e": Accelerator("TPU v5 lite", 100e9, 256, 100e9),
    "tpu_v5p": Accelerator("TPU v5p", 300e9, 8960, 300e9),
    "tpu_v6e": Accelerator("TPU v6 lite", 224e9, 256, 224e9),
}


def devices(
    kind: str, counts: list[int]
) -> tuple[dict[int, list[Any]], str, str]:
  """Devices of a kind to compile for.

  Call it before anything else asks JAX for devices.

  Args:
    kind: a key of `ACCELERATORS`.
    counts: numbers of devices.

  Returns:
    number -> devices, the compiler's name and version, and why it is not that
    of the devices ("" if it is).

  Raises:
    UserError: if the kind is not known.
  """
  if kind not in ACCELERATORS:
    raise UserError(f"--device={kind} is not one of {sorted(ACCELERATORS)}")
  missing = compilers.why_not(kind)
  if not missing:
    found = {count: compilers.devices(kind, count) for count in counts}
    return found, compilers.compiler(kind), ""
  # The CPU pretends to be so many.
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", max(counts))
  found = {count: jax.devices()[:count] for count in counts}
  return found, "a CPU's", missing


def estimate(
    config: task_lib.Config,
    found: Mapping[str, Any],
    count: int,
    device: str,
    utilisation: float,
) -> dict[str, Any]:
  """The estimate of a training step on a number of accelerators.

  Args:
    config: config of a task, with the batch of all devices.
    found: what `compilers.measure` says of it on them.
    count: of the devices.
    device: a key of `ACCELERATORS`.
    utilisation: the share of a device's rate in products that it reaches, where
      the compiler does not tell how long it computes.

  Returns:
    what was found, and: "memory_bytes", what a device has; "compute_seconds",
    and whether these are the compiler's ("compiler_times"); "sending_seconds"
    of all that is sent; "step_seconds": what is sent beside computing takes no
    time of its own unless it takes longer; the "utilisation" of the step;
    "examples_per_second"; "run_days"; the "bottleneck". Where the program does
    not fit and the compiler gives none, only the memory and the bottleneck.

  Raises:
    UserError: if the device's rate in this dtype is not known.
  """
  accelerator, dtype = ACCELERATORS[device], config.compute_dtype
  if accelerator.kind not in record.PEAK[dtype]:
    raise UserError(f"the rate of a {device} in {dtype} is not known")
  peak = record.PEAK[dtype][accelerator.kind]
  fits = found["needed_bytes"] <= accelerator.memory
  row = {
      "device": device,
      "devices": count,
      "batch_size": config.batch_size,
      "memory_bytes": accelerator.memory,
      **found,
      "fits": found.get("fits", True) and fits,
      "bottleneck": "memory",
  }
  if "sent_bytes" not in found:
    return row
  flops = build.build_network(config).flops_per_example() * config.batch_size
  # A training step is three forward passes' worth of products.
  least = 3 * flops / count / peak
  compute = sum(found.get("parts", {}).values())
  row["compiler_times"] = compute > 0
  compute = compute or least / utilisation
  is_near = count <= accelerator.near_devices
  rate = accelerator.near if is_near else accelerator.far
  sending, beside = found["sent_bytes"] / rate, found["beside_bytes"] / rate
  step = max(compute, beside) + sending - beside
  if row["fits"]:
    row["bottleneck"] = "products" if compute >= sending else "interconnect"
  return row | {
      "compute_seconds": compute,
      "sending_seconds": sending,
      "step_seconds": step,
      "utilisation": least / step,
      "examples_per_second": config.batch_size / step,
      "run_days": step * (config.train_examples // config.batch_size) / 86400,
  }


COLUMNS = (
    "devices",
    "memory needed, of",
    "sent, overlapped",
    "computation",
    "communication",
    "step",
    "utilisation",
    "products in float32",
    "whole run",
    "bottleneck",
)


def table(rows: list[dict[str, Any]], title: str) -> rich.table.Table:
  """The table of estimates."""
  shown = rich.table.Table(*COLUMNS, title=title)
  for row in rows:
    shown.add_row(*cells(row))
  return shown


def cells(row: dict[str, Any]) -> list[str]:
  """A row of the table."""
  needs = f"{gib(row['needed_bytes'])} of {gib(row['memory_bytes'])} GiB"
  if "step_seconds" not in row:
    return [str(row["devices"]), needs, *["–"] * 7, row["bottleneck"]]
  sent, beside = row["sent_bytes"], row["beside_bytes"]
  share = f", {beside / sent:.0%}" if sent else ""
  products = row.get("products")
  return [
      str(row["devices"]),
      needs,
      f"{gib(sent)} GiB{share}",
      f"{1e3 * row['compute_seconds']:.3g} ms",
      f"{1e3 * row['sending_seconds']:.3g} ms",
      f"{1e3 * row['step_seconds']:.3g} ms",
      f"{row['utilisation']:.0%}",
      "–" if products is None else f"{products.get('f32', 0):.1%}",
      f"{row['run_days']:.2g} days",
      row["bottleneck"],
  ]


def origin(row: Mapping[str, Any], utilisation: float) -> str:
  """The source of a row's numbers, in one or two lines."""
  missing = row["estimated_because"]
  if missing:
    said = f"Estimated from a CPU's program: {missing}."
  else:
    said = f"Compiled by {row['compiler']}; nothing was run."
  if row.get("compiler_times"):
    return f"{said} Times of computation are its estimates."
  return f"{said} Computation is assumed at {utilisation:.0%} of the peak rate."


def gib(count: float) -> str:
  """Bytes in GiB."""
  return f"{count / 2**30:.2f}"
