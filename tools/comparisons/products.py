"""Measures the matrix products of a program alone."""

from collections import Counter
from collections.abc import Callable
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perceiver import attend_by
from perceiver import flops
from scripts.benchmarks import timing

CALLS = 5


class Product(NamedTuple):
  """A matrix product, batched or not."""

  shapes: tuple[tuple[int, ...], ...]
  dimensions: Any  # As `jax.lax.dot_general` takes them.


def products(function: Callable[..., Any], *args: Any) -> Counter[Product]:
  """The products of one call, and how often each shape occurs.

  Attention counts as its plain form has it: in whole, not in blocks.
  """
  with attend_by("plain"):
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  found: Counter[Product] = Counter()
  for equation, _, times in flops.equations(jaxpr):
    if equation.primitive.name == "dot_general":
      shapes = tuple(x.aval.shape for x in equation.invars)
      found[Product(shapes, equation.params["dimension_numbers"])] += times
  return found


def seconds(found: Counter[Product]) -> float:
  """Time of all products in float32, each compiled and called by itself."""
  return sum(times * _seconds(product) for product, times in found.items())


def _seconds(product: Product) -> float:
  x, y = (jnp.ones(shape, jnp.float32) for shape in product.shapes)
  run = jax.jit(lambda x, y: jax.lax.dot_general(x, y, product.dimensions))
  return statistics.median(
      timing.timed(lambda: run(x, y).block_until_ready(), CALLS)
  )
