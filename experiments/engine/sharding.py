"""Shardings of arrays on a mesh of devices.

The mesh has two axes. Batches split along "data", and each example along
"context" (context parallelism), whose size is `config.mesh.context`. Large
parameters, and what the optimizer keeps of them, split along both axes together
(FSDP), each along one axis of its array.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from experiments.data.pipeline import Shard
from perceiver import target as targets
from perceiver.context import Attend
from perceiver.context import compiled_for
from perceiver.context import laid_out_by
from perceiver.target import Target

DATA, CONTEXT = "data", "context"

Devices = Sequence[Any] | int | None  # JAX's, or how many of them.


def make_mesh(devices: Devices = None, context: int = 1) -> Mesh:
  """A mesh of devices.

  Args:
    devices: which, attached or of a topology (`jax.experimental.topologies`);
      or the first so many of all processes'; None: all of these.
    context: devices that share each example.

  Raises:
    ValueError: if these do not divide the devices.
  """
  if devices is None or isinstance(devices, int):
    devices = jax.devices()[:devices]
  if context < 1 or len(devices) % context:
    raise ValueError(
        f"{len(devices)} devices do not divide into groups of mesh.context ="
        f" {context}"
    )
  # `jax.make_mesh` makes explicit axes, which batch norm rejects.
  return Mesh(np.asarray(devices).reshape(-1, context), (DATA, CONTEXT))


def of_batch(mesh: Mesh) -> NamedSharding:
  """Rows of a batch, spread over the devices."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def copied(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def on_one_device(arrays: Any, mesh: Mesh) -> Any:
  """A tree of arrays, each whole, on the first device of this process.

  All processes of the mesh must call it.
  """
  if mesh.size == 1:
    return arrays
  whole = jax.jit(lambda x: x, out_shardings=copied(mesh))(arrays)
  return jax.tree.map(lambda x: x.addressable_data(0), whole)


def of_state(state: Any, mesh: Mesh, fsdp_min_size: int = 0) -> Any:
  """A tree of shardings for a tree of arrays, by their shapes alone.

  An array of `fsdp_min_size` numbers or more splits along the longest axis that
  the devices divide; where there is none, and for smaller arrays, every device
  has a copy.
  """

  def one(x):
    axes = [i for i, n in enumerate(x.shape) if n and n % mesh.size == 0]
    spec: list[Any] = [None] * len(x.shape)
    if axes and math.prod(x.shape) >= fsdp_min_size:
      spec[max(axes, key=lambda i: x.shape[i])] = (DATA, CONTEXT)
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(one, state)


def with_shardings(shapes: Any, mesh: Mesh, fsdp_min_size: int = 0) -> Any:
  """A tree of shapes with shardings."""
  return jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=sharding
      ),
      shapes,
      of_state(shapes, mesh, fsdp_min_size),
  )


def part_of_batches(mesh: Mesh) -> Shard:
  """Which rows of every batch this process's devices hold.

  Processes whose devices share examples hold the same rows.
  """
  rows = np.unique(
      [
          row
          for row, devices in enumerate(mesh.devices)
          for device in devices
          if device.process_index == jax.process_index()
      ]
  )
  parts = mesh.shape[DATA]
  return Shard(rows[0] // len(rows), parts // len(rows), parts=parts)


def spread(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """This process's rows as its part of the global batch."""
  sharding = of_batch(mesh)
  return {
      name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
      for name, rows in batch.items()
  }


@dataclasses.dataclass(frozen=True)
class Layout:
  """The layout of a model on a mesh: a `perceiver.context.Layout`.

  Examples split along "data", and the rows of each, whether inputs, latents or
  output queries, along "context". Attention runs on each device by itself, by
  any implementation, of its queries and all keys. Where there are more keys
  than queries, as in an encoder, these stay where they are instead, and what
  queries read of each part is merged.
  """

  mesh: Mesh
  heads: bool = False  # Attention splits along its heads where they divide.

  @property
  def target(self) -> Target:
    """The target of compilation."""
    return targets.of(list(self.mesh.devices.flat))

  @property
  def parts(self) -> int:
    """How many parts the rows of an array are split into."""
    return self.mesh.shape[CONTEXT]

  def place(self, x: Array) -> Array:
    """x [B, rows, C], sharded; not split if its rows do not divide.

    Without being told, the compiler may rather split channels, since parameters
    are.
    """
    # An array for all examples is on all devices.
    data = None if len(x) == 1 else DATA
    spec = PartitionSpec(data, self._along(x.shape[1]))
    return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

  def per_example(
      self, function: Callable[[Any, Array], Array], shared: Any, x: Array
  ) -> Array:
    """function(shared, x), of each example by itself.

    Each device does so alone, with all that is shared in float32 as parameters
    are, so that gradients are summed in it. Devices that share examples cannot:
    then what is shared is gathered once, and its gradient summed at each use.
    """
    if self.parts > 1 or len(x) % self.mesh.size:
      return function(jax.tree.map(self._gathered, shared), x)

    def on_device(shared, x):
      alone = dataclasses.replace(self.target, devices=1)
      with laid_out_by(None), compiled_for(alone):
        return function(shared, x)

    return jax.shard_map(
        on_device,
        mesh=self.mesh,
        in_specs=(PartitionSpec(), PartitionSpec(DATA)),
        out_specs=PartitionSpec(DATA),
        check_vma=False,  # As in `attend`.
    )(shared, x)

  def _gathered(self, x: Array) -> Array:
    """x, replicated on every device; its gradient may be sharded."""

    @jax.custom_vjp
    def gather(x):
      return jax.lax.with_sharding_constraint(x, copied(self.mesh))

    gather.defvjp(lambda x: (gather(x), None), lambda _, dx: (dx,))
    return gather(x)

  def attend(
      self,
      attend: Attend,
      q: Array,
      k: Array,
      v: Array | None,
      mask: Array | None,
      constants: Array | None,
      causal: int | None = None,
  ) -> Array:
    """attend(q, k, v, mask, constants, causal), split among devices."""
    # One part of all heads: nothing is added up over one device.
    by_heads = self.heads or self.parts == 1
    heads = self._along(q.shape[2]) if by_heads else None
    queries = None if heads else self._along(q.shape[1])
    keys = None
    if queries and k.shape[1] > q.shape[1]:
      keys = self._along(k.shape[1])
    of_queries = PartitionSpec(DATA, queries, heads)
    of_keys = PartitionSpec(DATA, keys, heads)
    of_mask = None
    if mask is not None:
      # With keys in parts, each part has the scores of all queries.
      axes = (DATA, None if keys else queries, keys)
      of_mask = PartitionSpec(
          *(a if n > 1 else None for a, n in zip(axes, mask.shape, strict=True))
      )

    def part(*arrays):
      rule: Any = causal
      if rule is not None and keys:  # For all queries, of its own keys.
        rule -= jax.lax.axis_index(keys) * arrays[1].shape[1]
      elif rule is not None and queries:
        rule += jax.lax.axis_index(queries) * arrays[0].shape[1]
      return attend(*arrays, rule, axis=keys)

    return jax.shard_map(
        part,
        mesh=self.mesh,
        in_specs=(
            of_queries,
            of_keys,
            None if v is None else of_keys,
            of_mask,
            None if constants is None else of_keys,
        ),
        out_specs=of_queries,
        # What it would check, the blocks' loops are not written for.
        check_vma=False,
    )(q, k, v, mask, constants)

  def _along(self, length: int) -> str | None:
    return CONTEXT if length % self.parts == 0 else None
