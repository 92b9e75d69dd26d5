"""Flash attention as cuDNN and the TPU's kernels have it.

Each has a function that says why it cannot be taken, "" if it can.

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

_LANES = 128  # Of a TPU: rows of a block, and features of a head.
_MASK_ELEMENTS = 2**28  # cuDNN wants the whole mask, in the scores' dtype.


def why_not_cudnn(
    q: Any, k: Any, v: Any, mask: Any, constants: Any = None
) -> str:
  """What keeps cuDNN from computing these shapes on this machine."""
  target = context.current_target()
  if target.platform != "gpu":
    return "there is no GPU"
  if q.dtype != jnp.bfloat16:
    return f"it computes in bfloat16, not in {q.dtype}"
  extra = 0 if constants is None else 1  # See `_with_constants`.
  width = _padded(q.shape[-1] + extra, v, 8)
  most = 256 if target.capability >= 9 else 128
  if width > most:
    return f"its heads are {most} wide at most, these {width}"
  if mask is not None:
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
) -> Float[Array, "B N H V"]:
  """What queries read, as `softmax.attend`."""
  v = k if v is None else v
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  q, k = _with_constants(q, k, constants, scale)
  width = _padded(q.shape[-1], v, 8)
  whole = None
  if mask is not None:
    whole = jnp.broadcast_to(
        mask[:, None], (len(mask), 1, q.shape[1], k.shape[1])
    )
  y = jax.nn.dot_product_attention(
      *(_widened(x, width) for x in (q, k, v)),
      mask=whole,
      scale=scale,
      implementation="cudnn",
  )[..., : v.shape[-1]]
  if mask is None:
    return y
  # It lets a query that may see no key read all of them.
  return jnp.where(mask.any(-1)[..., None, None], y, 0)


def why_not_tpu(q: Any, k: Any, v: Any, mask: Any) -> str:
  """What keeps the TPU's kernel from computing these shapes here."""
  del v  # Features are padded to any width.
  target = context.current_target()
  if target.platform != "tpu":
    return "there is no TPU"
  if target.devices > 1 and context.current_layout() is None:
    return "the compiler cannot split it over devices"
  if mask is not None:
    return "it takes no mask"
  if q.shape[1] % _LANES or k.shape[1] % _LANES:
    return f"it needs multiples of {_LANES} queries and keys"
  return ""


def tpu(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: None = None,
    constants: Float[Array, "B M H"] | None = None,
    *,
    scale: float | None = None,
) -> Float[Array, "B N H V"]:
  """What queries read, as `softmax.attend`, without a mask."""
  # Only a TPU needs it, and no other part of JAX promises to keep it.
  from jax.experimental.pallas.ops.tpu import flash_attention

  del mask
  v = k if v is None else v
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  q, k = _with_constants(q, k, constants, scale)
  width = _padded(q.shape[-1], v, _LANES)
  y = flash_attention.flash_attention(
      *(_widened(x, width).swapaxes(1, 2) for x in (q, k, v)),
      sm_scale=scale,
  )
  return y.swapaxes(1, 2)[..., : v.shape[-1]]


def _with_constants(q, k, constants, scale):
  """Queries and keys with one more feature, whose product is the constant."""
  if constants is None:
    return q, k
  more = (constants / scale)[..., None].astype(k.dtype)
  ones = jnp.ones_like(q[..., :1])
  return jnp.concatenate([q, ones], -1), jnp.concatenate([k, more], -1)


def _padded(features: int, v: Any, multiple: int) -> int:
  """The width of a head with as many features for queries as for values."""
  return -(-max(features, v.shape[-1]) // multiple) * multiple


def _widened(x: Array, width: int) -> Array:
  """x with zeros for more features, which change no product."""
  return jnp.pad(x, [(0, 0)] * 3 + [(0, width - x.shape[-1])])
