"""Where arrays live: the one place that knows of devices.

The mesh has one axis, "data". Batches split along it; so do large parameters,
and whatever the optimizer keeps of them, each along one of its axes.
"""

from collections.abc import Mapping
import math
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

MIN_SIZE = 2**18  # Numbers; smaller arrays are copied to every device.


def make_mesh(num_devices: int | None = None) -> Mesh:
  """The first so many devices of all processes, or all of them, in one row."""
  # `jax.make_mesh` makes explicit axes, which batch norm rejects.
  return Mesh(np.asarray(jax.devices()[:num_devices]), ("data",))


def of_batch(mesh: Mesh) -> NamedSharding:
  """Rows of a batch, spread over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def copied(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def of_state(state: Any, mesh: Mesh) -> Any:
  """A tree of shardings for a tree of arrays, by their shapes alone.

  A large array splits along the longest axis that the devices divide; where
  there is none, and for small arrays, every device has a copy.
  """

  def one(x):
    axes = [i for i, n in enumerate(x.shape) if n and n % mesh.size == 0]
    spec: list[str | None] = [None] * len(x.shape)
    if axes and math.prod(x.shape) >= MIN_SIZE:
      spec[max(axes, key=lambda i: x.shape[i])] = "data"
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(one, state)


def with_shardings(shapes: Any, mesh: Mesh) -> Any:
  """A tree of shapes together with where its arrays are to live."""
  return jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=sharding
      ),
      shapes,
      of_state(shapes, mesh),
  )


def spread(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """This process's rows as its part of the global batch."""
  sharding = of_batch(mesh)
  return {
      name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
      for name, rows in batch.items()
  }
