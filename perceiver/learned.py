"""Learned arrays, and products and sums with parameters.

Parameters are kept in float32, whatever the dtype to compute in. What uses one
rounds it, and computes its gradient in float32, over all examples: so it is
also summed over devices in float32, where a sum of many parts in bfloat16 would
lose the small ones.
"""

import dataclasses
import functools
from typing import Any

import haiku as hk
import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jaxtyping import Float

from perceiver import bounds
from perceiver import context

# What layers in a loop keep for the backward pass where a loop copies all that
# it keeps, as on a TPU: the rest is cheaper to compute again.
KEPT = "kept"


def kept(x: Any) -> Any:
  """Marks x as an array that a loop of layers keeps, and returns it."""
  return checkpoint_name(x, KEPT)


@dataclasses.dataclass
class LearnedArray(hk.Module):
  """A learned array, the same for every example.

  Attributes:
    num_elements: number of rows.
    channels: channels of each row.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_elements: int
  channels: int
  name: str | None = None

  def __call__(
      self, batch_size: int = 1
  ) -> Float[Array, "{batch_size} {self.num_elements} {self.channels}"]:
    """The array, once for each of `batch_size` examples.

    Attention projects one array for all examples only once.

    It is initialised by a normal distribution with a standard deviation of
    0.02, truncated at two deviations.

    Source: Perceiver, appendix C.
    """
    for name in ("num_elements", "channels"):
      bounds.check(f"{self.module_name}: {name}", getattr(self, name), 1)
    array = hk.get_parameter(
        "array",
        [self.num_elements, self.channels],
        init=hk.initializers.TruncatedNormal(0.02),
    )
    return for_examples(jnp.asarray(array)[None], batch_size)


def product(
    x: Float[Any, "*B C"], w: Float[Any, "C D"]
) -> Float[Array, "*B D"]:
  """x w, in the dtype of x; the gradient of w has the dtype of w."""
  if x.dtype == w.dtype == jnp.float32:
    return jnp.matmul(x, w)
  # Only with sums in float32 does a CPU use its instructions for products of
  # bfloat16: a forward pass takes a third of the time.
  is_cpu = context.current_target().platform == "cpu"
  return _product(jnp.float32 if is_cpu else None, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(sums: Any, x, w):
  y = jnp.matmul(x, w.astype(x.dtype), preferred_element_type=sums)
  return y.astype(x.dtype)


def _product_backward(sums, residuals, dy):
  x, w = residuals
  rows = (tuple(range(x.ndim - 1)),) * 2
  # Not as two matrices: axes that are split over devices shall stay apart.
  dw = jnp.tensordot(x, dy, rows, preferred_element_type=jnp.float32)
  if sums is not None:
    # Where dw is transposed, as of embeddings that are decoded with, XLA turns
    # the product around, into one that a CPU does not have in bfloat16.
    dw = jax.lax.optimization_barrier(dw)
  dx = jnp.matmul(dy, w.astype(x.dtype).T, preferred_element_type=sums)
  return dx.astype(x.dtype), dw.astype(w.dtype)


_product.defvjp(
    lambda sums, x, w: (_product(sums, x, w), (x, w)), _product_backward
)


@jax.custom_vjp
def plus(x: Float[Array, "*B C"], b: Float[Any, "C"]) -> Float[Array, "*B C"]:
  """x + b, in the dtype of x; the gradient of b has the dtype of b."""
  return x + b.astype(x.dtype)


def _plus_backward(b, dy):
  rows = tuple(range(dy.ndim - 1))
  return dy, dy.sum(rows, dtype=jnp.float32).astype(b.dtype)


plus.defvjp(lambda x, b: (plus(x, b), b), _plus_backward)


def for_examples(
    x: Float[Array, "#B *C"], batch_size: Any
) -> Float[Array, "B *C"]:
  """x repeated for a number of examples, if it has one.

  The number may be symbolic, as in an exported program.
  """
  return x if x.shape[0] == batch_size else _for_examples(batch_size, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _for_examples(batch_size: Any, x):
  return jnp.broadcast_to(x, (batch_size, *x.shape[1:]))


_for_examples.defvjp(
    lambda batch_size, x: (_for_examples(batch_size, x), None),
    lambda batch_size, _, dy: (
        dy.sum(0, keepdims=True, dtype=jnp.float32).astype(dy.dtype),
    ),
)
