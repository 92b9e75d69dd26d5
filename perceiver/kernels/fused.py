"""cuDNN's flash attention, and its conditions.

Axes: B examples, N queries, M keys, H heads, F query and key features of a
head, V value features of a head.
"""

from typing import Any

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import context
from perceiver.kernels import causal as rules
from perceiver.kernels.causal import Offset
from perceiver.kernels.splash import with_constants

_MASK_ELEMENTS = 2**28  # cuDNN wants the whole mask, in the scores' dtype.
_HOPPER = 9.0  # From this compute capability on, it takes more.


def why_not_cudnn(
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    constants: Any = None,
    causal: Offset | None = None,
) -> str:
  """The reason why cuDNN cannot compute these shapes; "" if it can."""
  target = context.current_target()
  if target.platform != "gpu":
    return "there is no GPU"
  if q.dtype != jnp.bfloat16:
    return f"it computes in bfloat16, not in {q.dtype}"
  extra = 0 if constants is None else 1  # See `with_constants`.
  width = max(_widths(q.shape[-1] + extra, v.shape[-1]))
  most = 256 if target.capability >= _HOPPER else 128
  if width > most:
    return f"its heads are {most} wide at most, these {width}"
  masked = mask is not None or not _has_rule(causal)
  if masked and len(q) * q.shape[1] * k.shape[1] > _MASK_ELEMENTS:
    return "its mask would be too large"
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
  """The result of attention, as in `softmax.attend`.

  Its own causal rule has no offset; with one it is given a mask.
  """
  # `jax.nn` has it too, but not with values of another width.
  from jax._src.cudnn import fused_attention_stablehlo as library

  v = k if v is None else v
  sees_any = rules.sees_any(mask, q.shape[1], causal)
  if not _has_rule(causal):
    mask, causal = rules.with_mask(mask, q.shape[1], k.shape[1], causal), None
  factor = q.shape[-1] ** -0.5 if scale is None else scale
  q, k = with_constants(q, k, constants, factor)
  of_keys, of_values = _widths(q.shape[-1], v.shape[-1])
  queries, keys, features = q.shape[1], k.shape[1], v.shape[-1]
  # JAX trains with even numbers of queries and of keys alone.
  more_queries, more_keys = queries % 2, keys % 2
  types = library.MaskType
  kind = types.NO_MASK if causal is None else types.CAUSAL
  hidden: dict[str, Any] = {"mask_type": kind}
  if mask is not None:
    whole = jnp.broadcast_to(mask[:, None], (len(mask), 1, queries, keys))
    rows = [(0, 0), (0, 0), (0, more_queries), (0, more_keys)]
    hidden["mask"] = jnp.pad(whole, rows)
  elif more_keys:
    of = lambda length: jnp.full(len(q), length, jnp.int32)
    hidden = {
        "mask_type": types.PADDING if causal is None else types.PADDING_CAUSAL,
        "q_seqlen": of(queries),
        "kv_seqlen": of(keys),
    }
  y: Any = library.dot_product_attention(
      _padded(q, more_queries, of_keys),
      _padded(k, more_keys, of_keys),
      _padded(v, more_keys, of_values),
      scale=factor,
      **hidden,
  )
  y = y[:, :queries, :, :features]
  if sees_any is None:
    return y
  # It lets a query that may see no key read all of them.
  return jnp.where(sees_any[..., None, None], y, 0)


def _has_rule(causal: Offset | None) -> bool:
  return causal is None or isinstance(causal, int) and causal == 0


def _widths(features: int, of_values: int) -> tuple[int, int]:
  """Widths of queries and values, different only if the GPU supports it."""
  widths = -(-features // 8) * 8, -(-of_values // 8) * 8
  if context.current_target().capability >= _HOPPER:
    return widths
  return max(widths), max(widths)


def _padded(x: Array, rows: int, width: int) -> Array:
  """x padded with zeros: additional rows, and features up to a width."""
  more = width - x.shape[-1]
  return jnp.pad(x, [(0, 0), (0, rows), (0, 0), (0, more)])
