"""One step of training on several meshes: the same numbers, where they live.

    python tests/step_on_meshes.py FILE:VARIANT... MESH...

A mesh is DATA×ELEMENTS, as in 4x2. Prints a line of JSON for each: the loss, how
far it and the update are from the first mesh's, what the compiled step sends
between devices, in bytes, and the share of the state that a device keeps.
"""

import importlib
import json
import sys

from absl import flags
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from experiments.build import build
from experiments.training import sharding
from scripts.benchmarks.collectives import exchanged


def load(name: str):
  """A config, "FILE:VARIANT", with an optimizer that does not amplify."""
  file, variant = name.split(":")
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  with config.unlocked():
    # Adam would turn the rounding of small gradients into whole steps.
    config.optimizer = {"name": "sgd"}
    config.schedule = {"name": "constant", "peak": 1e3}  # Far above rounding.
    config.max_grad_norm = None
    config.batch_size = 8
    config.train_examples = 8
    config.start.weights = ""
  return config


def batch_of(task) -> dict[str, np.ndarray]:
  """A batch that any task can take."""
  rng = np.random.default_rng(0)

  def one(x):
    shape = (8, *x.shape)
    if x.dtype == bool:
      return np.ones(shape, bool)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return rng.integers(0, 2, shape).astype(x.dtype)
    return rng.normal(size=shape).astype(x.dtype)

  return {name: one(x) for name, x in task.example.items()}


def step(config, data: int, elements: int):
  """(scalars, what it adds to parameters, compiled program, share kept)."""
  with config.unlocked():
    config.mesh.elements = elements
  built = build(config, data * elements)
  batch = sharding.spread(batch_of(built.task), built.mesh)
  state = built.initial_state()
  compiled = built.train_step().lower(state, batch).compile()
  leaves = jax.tree.leaves(state)
  here = sum(x.addressable_shards[0].data.nbytes for x in leaves)
  kept = here / sum(x.nbytes for x in leaves)
  before = _whole(state.model.params)
  state, scalars = compiled(state, batch)
  added = jax.tree.map(np.subtract, _whole(state.model.params), before)
  return _whole(scalars), added, compiled.as_text(), kept


def _whole(tree):
  """Arrays of any layout, on the host."""
  return jax.tree.map(
      lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)),
      tree,
  )


def main(*names: str) -> None:
  """Prints a line for each config and mesh."""
  flags.FLAGS.mark_as_parsed()
  sharding.MIN_SIZE = 64  # Even small arrays are split.
  meshes = [name for name in names if ":" not in name]
  for name in names:
    if name in meshes:
      continue
    first = None
    for mesh in meshes:
      found = step(load(name), *map(int, mesh.split("x")))
      scalars, added, program, kept = found
      first = first or (scalars, added)
      print(
          json.dumps({
              "config": name,
              "mesh": mesh,
              "loss": float(scalars["loss"]),
              "of_loss": difference(scalars["loss"], first[0]["loss"]),
              "of_update": difference(added, first[1]),
              "exchanged": exchanged(program),
              "kept": kept,
          }),
          flush=True,
      )


def difference(x, y) -> float:
  """The largest difference, of the largest number."""
  x, y = jax.tree.leaves(x), jax.tree.leaves(y)
  largest = max(np.abs(each).max() for each in y)
  return float(max(np.abs(a - b).max() for a, b in zip(x, y)) / largest)


if __name__ == "__main__":
  main(*sys.argv[1:])
