"""Exports a model as a program that runs with JAX alone.

A folder has the forward pass of evaluation, FORWARD, as StableHLO in the form
of `jax.export`, and its weights, WEIGHTS, one of our files. Who runs it needs
jax and flatbuffers, and none of this project:

    forward = jax.export.deserialize(open("forward.jax", "rb").read())
    weights = dict(np.load("weights.npz"))
    del weights["config.json"]
    outputs = forward.call(weights, {"image": images})
"""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from experiments.data import atomic
from experiments.engine import weights as weights_lib
from experiments.engine.build import BuiltNetwork
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from perceiver import compiled_for
from perceiver import target
from perceiver.weights import tensors

FORWARD, WEIGHTS = "forward.jax", "weights.npz"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def save(
    folder: str | pathlib.Path,
    weights: weights_lib.Weights,
    batch_size: int | None = None,
) -> list[str]:
  """Writes the folder; returns lines about inputs and outputs.

  Args:
    folder: made if it is not there.
    weights: the model.
    batch_size: examples of a call; None: any number.

  Raises:
    UserError: if the model cannot be exported.
  """
  exported = program(weights.network, batch_size)
  try:
    content = exported.serialize()
  except ImportError as error:
    raise UserError(f"{error}: pip install flatbuffers") from error
  except ValueError as error:  # Outputs that are no dicts, tuples or arrays.
    raise UserError(f"the outputs cannot be exported: {error}") from error
  folder = pathlib.Path(folder)
  weights_lib.save(folder / WEIGHTS, weights.config, weights.model)
  atomic.write(folder / FORWARD, bytes(content))
  (_, batch), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
  outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
  return [f"in: {_shapes(batch)}", f"out: {_shapes(outputs)}"]


def program(
    network: BuiltNetwork, batch_size: int | None = None
) -> jax.export.Exported:
  """The function (weights, batch) -> outputs, for all of PLATFORMS.

  Weights are arrays by our names. The batch has those entries of an example
  that an output depends on. Attention is computed in the form that every
  platform has, in blocks.

  Args:
    network: the model.
    batch_size: examples of a call; None: any number.

  Raises:
    UserError: if the model cannot be exported for these.
  """
  (any_size,) = jax.export.symbolic_shape("b")
  size: Any = batch_size or any_size
  batch = network.batch_like(size)
  arrays = tensors.flatten(*network.like)

  def forward(weights: Mapping[str, jax.Array], given: Mapping[str, jax.Array]):
    count = next(iter(given.values())).shape[0]
    # An entry that no output depends on may still be looked up.
    missing = {
        name: jnp.zeros((count, *x.shape), x.dtype)
        for name, x in network.example.items()
        if name not in given
    }
    model = Model(*tensors.unflatten(weights))
    with compiled_for(target.Target("cpu")):
      return network.net.apply(
          *model, jax.random.key(0), {**given, **missing}, False
      )[0]

  export = jax.export.export(jax.jit(forward), platforms=PLATFORMS)
  try:
    # Where any number will do, each entry is kept, for it tells the number.
    whole = export(arrays, network.batch_like(batch_size or 1))
    names = sorted(batch)  # As a tree has them, after the weights.
    needed = {
        name: batch[name]
        for i, name in enumerate(names, start=len(arrays))
        if i in whole.module_kept_var_idx
    }
    return export(arrays, needed)
  except Exception as error:  # Whatever a model does that needs its batch size.
    text = tensors.gist(error)
    if batch_size:
      raise UserError(f"the model cannot be exported: {text}") from error
    raise UserError(
        f"the model cannot be exported for any number of examples ({text});"
        " --batch_size=N exports it for N"
    ) from error


def _shapes(tree: Any) -> str:
  """Names, dtypes and shapes of arrays in a tree."""
  found = jax.tree_util.tree_leaves_with_path(tree)
  return ", ".join(
      f"{jax.tree_util.keystr(path, simple=True, separator='/')}"
      f" {x.dtype}[{', '.join(map(str, x.shape))}]"
      for path, x in found
  )
