"""What XLA is told by target, and that a TPU's compiler takes it."""

import subprocess
import sys

import pytest

from experiments.engine import compiler_options
from perceiver.target import Target
from scripts.benchmarks import compilers
from tests.conftest import ENVIRONMENT


@pytest.mark.parametrize(
    "target", [Target("cpu", 8), Target("gpu", 1, 9.0), Target("tpu", 1)]
)
def test_nothing_is_asked_where_nothing_is_gathered_or_it_does_not_help(target):
  assert compiler_options.options(target) == {}


# Weights that are split over devices, in a loop.
LOOP = """
import sys
from scripts.benchmarks import compilers, hlo
chips = compilers.devices(sys.argv[1], int(sys.argv[2]))
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from experiments.engine import compiler_options, sharding
from perceiver import compiled_for, learned, target
mesh = sharding.make_mesh(chips)
of = NamedSharding(mesh, PartitionSpec(None, None, mesh.axis_names))

def loss(w, x):
  def layer(x, w):
    y = learned.product(x, w)
    return jax.lax.with_sharding_constraint(y, sharding.of_batch(mesh)), None
  return jax.lax.scan(layer, x, w)[0].astype(jnp.float32).sum()

w = jax.ShapeDtypeStruct((4, 1024, 1024), jnp.float32, sharding=of)
x = jax.ShapeDtypeStruct(
    (8 * len(chips), 512, 1024), jnp.bfloat16, sharding=sharding.of_batch(mesh)
)
with compiled_for(target.of(chips)):
  options = compiler_options.options(target.of(chips))
  step = jax.jit(jax.grad(loss), out_shardings=of, compiler_options=options)
  text = step.lower(w, x).compile().as_text()
"""
ON_TPU = """
kinds = {each.kind for each in hlo.collectives(hlo.Program(text))}
assert "all-gather" in kinds, kinds
assert any(
    each.kind == "all-gather" and each.is_beside
    for each in hlo.collectives(hlo.Program(text))
)
# Gradients are summed over chips in float32, and weights sent in bfloat16.
for *_, each in hlo.Program(text).executed():
  if each.operation.startswith(("all-reduce", "reduce-scatter")):
    assert each.type.lstrip("(").startswith("f32"), each.text
  if each.operation.startswith("all-gather"):
    assert each.type.lstrip("(").startswith("bf16"), each.text
"""


@pytest.mark.accelerators
@pytest.mark.skipif(
    bool(compilers.why_not("tpu_v5e")), reason=compilers.why_not("tpu_v5e")
)
def test_chips_compute_while_weights_are_gathered_and_sum_in_float32():
  subprocess.run(
      [sys.executable, "-c", LOOP + ON_TPU, "tpu_v5e", "64"],
      env={**ENVIRONMENT, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
      check=True,
      timeout=1800,
  )


# Both loops multiply between what starts and what awaits a gather or a sum.
ON_GPU = """
program = hlo.Program(text)
bodies = [
    each for name, each in program.computations.items()
    if any(i.operation == "all-gather-start" for i in each.values())
    and name != program.entry
]
assert len(bodies) == 2, len(bodies)
for body in bodies:
  names = list(body)
  start, done = (
      next(i for i, n in enumerate(names) if body[n].operation == operation)
      for operation in ("all-gather-start", "all-gather-done")
  )
  assert any("dot" in program.inside(body[n]) for n in names[start:done])
"""


@pytest.mark.accelerators
@pytest.mark.skipif(
    bool(compilers.why_not("h100")), reason=compilers.why_not("h100")
)
def test_gpus_multiply_while_weights_are_gathered_and_gradients_summed():
  subprocess.run(
      [sys.executable, "-c", LOOP + ON_GPU, "h100", "8"],
      env={**ENVIRONMENT, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
      check=True,
      timeout=1800,
  )
