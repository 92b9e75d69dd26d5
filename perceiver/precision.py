"""The dtype that a model computes in; its parameters stay float32."""

from collections.abc import Iterator
import contextlib
import contextvars

import haiku as hk
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

_dtype: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "dtype", default=None
)


@contextlib.contextmanager
def compute_in(dtype: str) -> Iterator[None]:
  """Makes Haiku modules called inside compute in `dtype`.

  Parameters and state are created in float32 and read as `dtype`; the Encoder
  casts the input array to what it reads, and the rest follows. Softmax, layer
  norms and the sums of attention are taken in float32 in any case.

  Args:
    dtype: "float32" or "bfloat16".

  Yields:
    nothing.

  Raises:
    ValueError: if `dtype` is another.
  """
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(
        f"compute dtype {dtype!r} is not one of ['bfloat16', 'float32']."
    )

  def create(next_creator, shape, original_dtype, init, context):
    del context
    if jnp.issubdtype(original_dtype, jnp.floating):
      original_dtype = jnp.float32
    return next_creator(shape, original_dtype, init)

  def read(next_getter, value, context):
    del context
    value = next_getter(value)
    if jnp.issubdtype(value.dtype, jnp.floating):
      value = value.astype(dtype)
    return value

  token = _dtype.set(dtype)
  try:
    with hk.custom_creator(create, params=True, state=True):
      with hk.custom_getter(read, params=True):
        yield
  finally:
    _dtype.reset(token)


def cast(x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """x in the dtype that modules compute in, for those that do not cast it."""
  return x.astype(_dtype.get() or x.dtype)
