"""Runs a published model of this project in its own process.

    python -m tools.comparisons.ours MODEL forward|train [PATH=VALUE ...]

It calls when it is told to (`timing.serve`). Its result is an object: the
highest memory of the process, the rate of a large matrix product, FLOPs,
seconds of compiling and of the matrix products alone.
"""

from collections.abc import Callable
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from scripts.benchmarks import cases
from scripts.benchmarks import timing
from tools.comparisons import products


def prepare(
    name: str, what: str, *changes: str
) -> tuple[Callable[[], object], Callable[[], dict[str, Any]]]:
  """The measured call, and a function that returns the result."""
  case = cases.make(name, changes=dict(c.split("=", 1) for c in changes))
  batch, flops = case.batch, case.flops()
  start = time.perf_counter()
  if what == "forward":
    function, args = case.forward, (case.model, batch)
    compiled = jax.jit(function).lower(*args).compile()
    call = lambda: jax.block_until_ready(compiled(*args))
  else:
    flops *= 3  # The backward pass has two products for each one.
    held = [case.state()]
    function = case.train_step()
    compiled = jax.jit(function, donate_argnums=0).lower(held[0], batch)
    compiled = compiled.compile()

    def call():
      held[0], scalars = compiled(held[0], batch)
      jax.block_until_ready(scalars)

    args = jax.eval_shape(case.state), batch
  compile_seconds = time.perf_counter() - start
  # The step overwrites the parameters, which are in the state alone now.
  found = products.products(function, *args)

  def result():
    peak = timing.peak_bytes()
    x = jnp.ones([timing.MATRIX, timing.MATRIX])
    product = jax.jit(jnp.dot)
    rate = timing.product_rate(lambda: product(x, x).block_until_ready())
    return {
        "peak_bytes": peak,
        "product_flops_per_second": rate,
        "flops": flops,
        "compile_seconds": compile_seconds,
        "products_seconds": products.seconds(found),
    }

  return call, result


if __name__ == "__main__":
  timing.serve(*prepare(*sys.argv[1:]))
