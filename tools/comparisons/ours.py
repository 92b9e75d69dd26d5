"""One measurement of this project's code, in a process of its own.

    python -m tools.comparisons.ours MODEL forward|train CALLS

Prints a JSON object: seconds of each call after the first, the highest memory
of the process, the rate of a large matrix product, FLOPs, seconds of compiling
and of the matrix products alone.
"""

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from scripts.benchmarks import cases
from scripts.benchmarks import timing
from tools.comparisons import products


def measure(name: str, what: str, calls: int) -> dict[str, Any]:
  """What is printed."""
  case = cases.make(name)
  batch, flops = case.batch, case.flops()
  if what == "forward":
    found = products.products(case.forward, case.model, batch)
    start = time.perf_counter()
    compiled = jax.jit(case.forward).lower(case.model, batch).compile()
    call = lambda: compiled(case.model, batch)
  else:
    flops *= 3  # The backward pass has two products for each one.
    held = [case.state()]
    like = jax.eval_shape(case.state)
    found = products.products(case.train_step(), like, batch)
    step = jax.jit(case.train_step(), donate_argnums=0)
    start = time.perf_counter()
    compiled = step.lower(held[0], batch).compile()
    del case  # Its parameters are the state's, which each step overwrites.

    def call():
      held[0], scalars = compiled(held[0], batch)
      return scalars

  compile_seconds = time.perf_counter() - start
  seconds = timing.timed(lambda: jax.block_until_ready(call()), calls)
  peak = timing.peak_bytes()
  x = jnp.ones([timing.MATRIX, timing.MATRIX])
  product = jax.jit(jnp.dot)
  rate = timing.product_rate(lambda: product(x, x).block_until_ready())
  return {
      "seconds": seconds,
      "peak_bytes": peak,
      "product_flops_per_second": rate,
      "flops": flops,
      "compile_seconds": compile_seconds,
      "products_seconds": products.seconds(found),
  }


if __name__ == "__main__":
  print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
