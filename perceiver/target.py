"""The devices that a program is compiled for.

The devices need not be attached: those of a topology
(`jax.experimental.topologies`) do as well.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax

# Bytes of a device's memory, from data sheets, by the name that JAX has for it.
MEMORY = {
    "NVIDIA A100": 80 * 10**9,
    "NVIDIA H100 80GB HBM3": 80 * 10**9,
    "NVIDIA H200": 141 * 10**9,
    "TPU v4": 32 * 10**9,
    "TPU v5 lite": 16 * 10**9,
    "TPU v5p": 95 * 10**9,
    "TPU v6 lite": 32 * 10**9,
}
UNKNOWN_MEMORY = 16 * 2**30  # bytes, where neither a device nor a sheet tells


@dataclasses.dataclass(frozen=True)
class Target:
  """The devices that run one program, all of one kind."""

  platform: str = "cpu"  # or "gpu", "tpu"
  devices: int = 1  # how many there are
  capability: float = 0.0  # of CUDA, "compute capability"; 0: not a CUDA GPU
  memory: int = UNKNOWN_MEMORY  # bytes of one device


def of(devices: Sequence[Any]) -> Target:
  """The target for devices of JAX."""
  first = devices[0]
  # JAX calls a GPU's platform "gpu" or after its maker, by version.
  platform = first.platform
  platform = "gpu" if platform in ("cuda", "rocm") else platform
  return Target(
      platform=platform,
      devices=len(devices),
      capability=float(getattr(first, "compute_capability", 0) or 0),
      memory=_memory(first),
  )


def _memory(device: Any) -> int:
  try:
    stats = device.memory_stats() or {}
  except jax.errors.JaxRuntimeError:  # It is not attached to this process.
    stats = {}
  return stats.get(
      "bytes_limit", MEMORY.get(device.device_kind, UNKNOWN_MEMORY)
  )
