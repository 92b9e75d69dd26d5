"""Marks arrays whose sharding the caller may choose (`laid_out_by`)."""

from collections.abc import Callable
from typing import Any

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver.context import current_layout


def parts() -> int:
  """The number of parts that the rows of large arrays are split into."""
  layout = current_layout()
  return 1 if layout is None else layout.parts


def place(x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """x in its sharding; arrays without rows are unchanged."""
  layout = current_layout()
  return x if layout is None or x.ndim != 3 else layout.place(x)


def per_example(
    function: Callable[[Any, Array], Array],
    shared: Any,
    x: Float[Array, "B N D"],
) -> Float[Array, "B N E"]:
  """function(shared, x), applied to each example separately.

  However often the function reads what is shared, it comes to each device once,
  and its gradient is summed over the devices once.
  """
  layout = current_layout()
  if layout is None:
    return function(shared, x)
  return layout.per_example(function, shared, x)


def place_evenly(
    x: Float[Array, "#B L C"], mask: Bool[Array, "#B L"] | None
) -> tuple[Float[Array, "#B K C"], Bool[Array, "#B K"] | None]:
  """x in its sharding, padded with rows to split evenly.

  Returns:
    x and the mask, which hides rows that were added; what is read of them, or
    by them, means nothing.
  """
  layout = current_layout()
  if layout is None:
    return x, mask
  missing = -x.shape[1] % layout.parts
  if missing:
    if mask is None:
      mask = jnp.ones(x.shape[:2], bool)
    mask = jnp.pad(mask, [(0, 0), (0, missing)])
    x = jnp.pad(x, [(0, 0), (0, missing), (0, 0)])
  return layout.place(x), mask
