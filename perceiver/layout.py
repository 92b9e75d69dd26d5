"""Where the large arrays of a model live is their caller's affair.

Nothing in this package knows of devices. Whoever runs a model on several says
with `laid_out_by` what happens to the arrays that are worth splitting: all that
have a row for each element of the input array (M), of the latent array (N) or
of the output queries (O), and attention itself.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import contextvars
from typing import Protocol, runtime_checkable

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

# (q, k, v, mask, constants, axis=): with the name of an axis, of parts.
Attend = Callable[..., Array]


@runtime_checkable
class Layout(Protocol):
  """What a caller decides."""

  @property
  def parts(self) -> int:
    """How many parts the rows of an array are split into."""
    ...

  def place(self, x: Array) -> Array:
    """x [B, rows, C], placed; whole if its rows do not divide."""
    ...

  def attend(
      self,
      attend: Attend,
      q: Array,
      k: Array,
      v: Array | None,
      mask: Array | None,
      constants: Array | None,
  ) -> Array:
    """attend(q, k, v, mask, constants), or the same of parts, joined."""
    ...


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar(
    "layout", default=None
)


@contextlib.contextmanager
def laid_out_by(layout: Layout | None) -> Iterator[None]:
  """Lets `layout` decide for the modules called inside; None: no one does."""
  token = _layout.set(layout)
  try:
    yield
  finally:
    _layout.reset(token)


def current() -> Layout | None:
  """Who decides here."""
  return _layout.get()


def place(x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """x where it is to live; what has no rows stays where it is."""
  layout = current()
  return x if layout is None or x.ndim != 3 else layout.place(x)


def place_evenly(
    x: Float[Array, "#B L C"], mask: Bool[Array, "#B L"] | None
) -> tuple[Float[Array, "#B K C"], Bool[Array, "#B K"] | None]:
  """x where it is to live, with further rows if it would not split evenly.

  Returns:
    x and the mask, which hides rows that were added; what is read of them, or
    by them, means nothing.
  """
  layout = current()
  if layout is None:
    return x, mask
  missing = -x.shape[1] % layout.parts
  if missing:
    if mask is None:
      mask = jnp.ones(x.shape[:2], bool)
    mask = jnp.pad(mask, [(0, 0), (0, missing)])
    x = jnp.pad(x, [(0, 0), (0, missing), (0, 0)])
  return layout.place(x), mask
