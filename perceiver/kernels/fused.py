"""cuDNN's flash attention, and when it can be taken.

Axes: B examples, N queries, M keys, H heads, F query and key features of a
head, V value features of a head.
"""

from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import context
from perceiver.kernels import causal as rules
from perceiver.kernels.causal import Offset
from perceiver.kernels.splash import with_constants

_MASK_ELEMENTS = 2**28  # cuDNN wants the whole mask, in the scores' dtype.


def why_not_cudnn(
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    constants: Any = None,
    causal: Offset | None = None,
) -> str:
  """What keeps cuDNN from computing these shapes; "" if nothing does."""
  target = context.current_target()
  if target.platform != "gpu":
    return "there is no GPU"
  if q.dtype != jnp.bfloat16:
    return f"it computes in bfloat16, not in {q.dtype}"
  extra = 0 if constants is None else 1  # See `with_constants`.
  width = _padded(q.shape[-1] + extra, v, 8)
  most = 256 if target.capability >= 9 else 128
  if width > most:
    return f"its heads are {most} wide at most, these {width}"
  if mask is not None or not _has_rule(causal):
    if len(q) * q.shape[1] * k.shape[1] > _MASK_ELEMENTS:
      return "its mask would be too large"
    if q.shape[1] % 2 or k.shape[1] % 2:
      return "with a mask it needs even numbers of queries and keys"
  return ""


def cudnn(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: Bool[Array, "#B #N #M"] | None = None,
    constants: Float[Array, "B M H"] | None = None,
    *,
    scale: float | None = None,
    causal: Offset | None = None,
) -> Float[Array, "B N H V"]:
  """What queries read, as `softmax.attend`.

  Its own causal rule has no offset; with one it is given a mask.
  """
  v = k if v is None else v
  sees_any = rules.sees_any(mask, q.shape[1], causal)
  if not _has_rule(causal):
    mask = rules.with_mask(mask, q.shape[1], k.shape[1], causal)
  factor = q.shape[-1] ** -0.5 if scale is None else scale
  q, k = with_constants(q, k, constants, factor)
  width = _padded(q.shape[-1], v, 8)
  whole = None
  if mask is not None:
    whole = jnp.broadcast_to(
        mask[:, None], (len(mask), 1, q.shape[1], k.shape[1])
    )
  y = jax.nn.dot_product_attention(
      *(_widened(x, width) for x in (q, k, v)),
      mask=whole,
      scale=factor,
      is_causal=causal is not None and _has_rule(causal),
      implementation="cudnn",
  )[..., : v.shape[-1]]
  if sees_any is None:
    return y
  # It lets a query that may see no key read all of them.
  return jnp.where(sees_any[..., None, None], y, 0)


def _has_rule(causal: Offset | None) -> bool:
  return causal is None or isinstance(causal, int) and causal == 0


def _padded(features: int, v: Any, multiple: int) -> int:
  """The width of a head with as many features for queries as for values."""
  return -(-max(features, v.shape[-1]) // multiple) * multiple


def _widened(x: Array, width: int) -> Array:
  """x with zeros for more features, which change no product."""
  return jnp.pad(x, [(0, 0)] * 3 + [(0, width - x.shape[-1])])
