"""What a training step would take of accelerators that are not at hand.

The step is compiled for as many devices as asked for, which the CPU pretends to
be. So what each keeps and sends is what the compiler plans, not a formula; only
times come from data sheets.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import rich.table

from experiments import task as task_lib
from experiments.engine import build
from experiments.engine import record
from experiments.engine.errors import UserError


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """A device, from its maker's data sheet."""

  kind: str  # As JAX calls it: a key of `record.PEAK`.
  memory: float  # bytes
  near: float  # bytes a second, each way, to devices beside it
  near_devices: int  # how many those are, itself among them
  far: float  # bytes a second, each way, to all others


ACCELERATORS = {
    # NVLink within a server of 8; one network adapter a GPU.
    "a100": Accelerator("NVIDIA A100", 80e9, 300e9, 8, 25e9),
    "h100": Accelerator("NVIDIA H100 80GB HBM3", 80e9, 450e9, 8, 50e9),
    "h200": Accelerator("NVIDIA H200", 141e9, 450e9, 8, 50e9),
    # All chips of a pod are on one interconnect.
    "tpu_v4": Accelerator("TPU v4", 32e9, 150e9, 4096, 150e9),
    "tpu_v5e": Accelerator("TPU v5 lite", 16e9, 100e9, 256, 100e9),
    "tpu_v5p": Accelerator("TPU v5p", 95e9, 300e9, 8960, 300e9),
    "tpu_v6e": Accelerator("TPU v6 lite", 32e9, 224e9, 256, 224e9),
}
# How often a device sends a result's bytes, on a ring of many.
_SENT = {"all_reduce": 2.0}


def estimate(
    config: task_lib.Config,
    memory: Mapping[str, int],
    devices: int,
    device: str,
    utilisation: float,
) -> dict[str, Any]:
  """A training step on so many accelerators.

  Args:
    config: of a task, with the batch of all devices.
    memory: what `scripts.benchmark.measure_memory` found for them.
    devices: how many.
    device: a key of `ACCELERATORS`.
    utilisation: the share of a device's rate in products that it reaches.

  Returns:
    bytes that a device keeps (`state`), has beside them in a step (`temporary`)
    and sends (`sent`); seconds to compute and to send; the larger of them as
    `step`, since one goes on during the other; examples a second; the
    `bottleneck`.

  Raises:
    UserError: if the device is not known, or its rate in this dtype.
  """
  if device not in ACCELERATORS:
    raise UserError(f"--device={device} is not one of {sorted(ACCELERATORS)}")
  accelerator, dtype = ACCELERATORS[device], config.compute_dtype
  if accelerator.kind not in record.PEAK[dtype]:
    raise UserError(f"the rate of a {device} in {dtype} is not known")
  peak = record.PEAK[dtype][accelerator.kind]
  flops = build.build_network(config).flops_per_example() * config.batch_size
  # A training step is three forward passes' worth of products.
  compute = 3 * flops / devices / (peak * utilisation)
  sent = sum(
      size * _SENT.get(name.removeprefix("step_").removesuffix("_bytes"), 1.0)
      for name, size in memory.items()
      if name.startswith("step_")
      and name not in ("step_argument_bytes", "step_temporary_bytes")
  )
  is_near = devices <= accelerator.near_devices
  sending = sent / (accelerator.near if is_near else accelerator.far)
  state = memory["step_argument_bytes"]
  temporary = memory["step_temporary_bytes"]
  step = max(compute, sending)
  bottleneck = "products" if compute >= sending else "interconnect"
  if state + temporary > accelerator.memory:
    bottleneck = "memory"
  return {
      "devices": devices,
      "batch_size": config.batch_size,
      "state_bytes": state,
      "temporary_bytes": temporary,
      "sent_bytes": int(sent),
      "compute_seconds": compute,
      "sending_seconds": sending,
      "step_seconds": step,
      "examples_per_second": config.batch_size / step,
      "run_days": step * (config.train_examples // config.batch_size) / 86400,
      "bottleneck": bottleneck,
  }


def table(rows: list[dict[str, Any]], device: str) -> rich.table.Table:
  """Estimates for people."""
  shown = rich.table.Table(
      "devices",
      "a device keeps",
      "a step adds",
      "and sends",
      "computing",
      "sending",
      "examples a second",
      "whole run",
      "bottleneck",
      title=f"a training step on {device}s",
  )
  for row in rows:
    shown.add_row(*cells(row))
  return shown


def cells(row: dict[str, Any]) -> list[str]:
  """A row of the table."""
  return [
      str(row["devices"]),
      f"{row['state_bytes'] / 2**30:.2f} GiB",
      f"{row['temporary_bytes'] / 2**30:.2f} GiB",
      f"{row['sent_bytes'] / 2**30:.2f} GiB",
      f"{1e3 * row['compute_seconds']:.3g} ms",
      f"{1e3 * row['sending_seconds']:.3g} ms",
      f"{row['examples_per_second']:,.0f}",
      f"{row['run_days']:.2g} days",
      row["bottleneck"],
  ]
