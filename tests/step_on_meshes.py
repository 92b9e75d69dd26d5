"""One step of training on several meshes: the same numbers, where they live.

    python -m tests.step_on_meshes --reference=FOLDER FILE:VARIANT... MESH...

A mesh is DATA×CONTEXT, as in 4x2. Prints a line of JSON for each: the loss,
how far it and the update are from the reference's, what the compiled step sends
between devices, the size of the parameters and of those that are split, in
bytes, and the share of the state that a device keeps. The first mesh of each
config writes the reference if there is none.

With `--address=HOST:PORT --process=I/N` it is one of N processes.
"""

import argparse
import importlib
import json
import pathlib

from absl import flags
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from experiments.engine import sharding
from experiments.engine.build import build
from scripts.benchmarks.hlo import exchanged


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
    config.init.pretrained = ""
    config.mesh.fsdp_min_size = 64
  return config


def batch_of(task) -> dict[str, np.ndarray]:
  """A batch that any task can take."""
  rng = np.random.default_rng(0)

  def one(name, x) -> np.ndarray:
    shape = (8, *x.shape)
    if x.dtype == bool or name == "units":
      return np.ones(shape, x.dtype)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return rng.integers(0, 2, shape).astype(x.dtype)
    return rng.uniform(size=shape).astype(x.dtype)

  batch = {name: one(name, x) for name, x in task.example.items()}
  if "picks" in batch:
    batch["picks"][:] = batch["units"].shape[1]  # The end,
    batch["picks"][..., 0] = 0  # after the first unit.
  return batch


def step(config, data: int, elements: int):
  """(scalars, what it adds to parameters, compiled program, sizes)."""
  with config.unlocked():
    config.mesh.context = elements
  built = build(config, data * elements)
  part = sharding.part_of_batches(built.mesh)
  rows = slice(8 // part.count * part.index, 8 // part.count * (part.index + 1))
  batch = {name: x[rows] for name, x in batch_of(built.task).items()}
  batch = sharding.spread(batch, built.mesh)
  state = built.initial_state()
  compiled = built.train_step().lower(state, batch).compile()
  leaves = jax.tree.leaves(state)
  here = sum(x.addressable_shards[0].data.nbytes for x in leaves)
  params = jax.tree.leaves(state.model.params)
  kept = {
      "kept": here / sum(x.nbytes for x in leaves),
      "params": sum(x.nbytes for x in params),
      "split": sum(
          x.nbytes for x in params if not x.sharding.is_fully_replicated
      ),
  }
  before = _whole(state.model.params)
  state, scalars = compiled(state, batch)
  added = jax.tree.map(np.subtract, _whole(state.model.params), before)
  return _whole(scalars), added, compiled.as_text() or "", kept


def _whole(tree):
  """Arrays of any layout, on the host."""
  return jax.tree.map(
      lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)),
      tree,
  )


def main() -> None:
  """Prints a line for each config and mesh."""
  flags.FLAGS.mark_as_parsed()
  parser = argparse.ArgumentParser()
  parser.add_argument("--reference", type=pathlib.Path)
  parser.add_argument("--address")
  parser.add_argument("--process", default="0/1")
  parser.add_argument("--fast", action="store_true")
  parser.add_argument("names", nargs="+")
  arguments = parser.parse_args()
  jax.config.update("jax_disable_most_optimizations", arguments.fast)
  if arguments.address:
    index, count = map(int, arguments.process.split("/"))
    jax.distributed.initialize(arguments.address, count, index)
  meshes = [name for name in arguments.names if ":" not in name]
  for name in sorted(set(arguments.names) - set(meshes)):
    reference = arguments.reference / f"{name}.npz"
    for mesh in meshes:
      found = step(load(name), *map(int, mesh.split("x")))
      scalars, added, program, kept = found
      numbers = {str(i): x for i, x in enumerate(jax.tree.leaves(added))} | {
          "loss": scalars["loss"]
      }
      if not reference.exists():
        np.savez(reference, **numbers)
      expected = dict(np.load(reference))
      print(
          json.dumps(
              {
                  "config": name,
                  "mesh": mesh,
                  "loss": float(numbers["loss"]),
                  "of_loss": difference(
                      numbers.pop("loss"), expected.pop("loss")
                  ),
                  "of_update": difference(numbers, expected),
                  "exchanged": exchanged(program),
                  **kept,
              }
          ),
          flush=True,
      )


def difference(x, y) -> float:
  """The largest difference, of the largest number."""
  x, y = jax.tree.leaves(x), jax.tree.leaves(y)
  largest = max(np.abs(each).max() for each in y)
  return float(
      max(np.abs(a - b).max() for a, b in zip(x, y, strict=True)) / largest
  )


if __name__ == "__main__":
  main()
