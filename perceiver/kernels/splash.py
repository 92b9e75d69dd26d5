"""JAX's splash attention, a TPU's flash attention, for any sizes and widths.

Axes: B examples, N queries, M keys, H heads, F query and key features of a
head, V value features of a head.
"""

import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import context
from perceiver.kernels import causal as rules
from perceiver.kernels.causal import Offset
from perceiver.learned import KEPT

_LANES = 128  # The kernel takes multiples of so many queries and keys.
# Bytes of a head's features, and queries and keys of a block at most: what the
# fast memory of a v5e chip holds, four arrays of scores in float32 among them.
_MOST = ((256, (512, 1024)), (1024, (512, 512)), (2048, (256, 512)))
_LEAST = (256, 256)  # The same of wider ones.
# What each block costs beside its rows, as so many rows more.
_FIXED = 128


def why_not(
    q: Any, k: Any, v: Any, mask: Any, causal: Offset | None = None
) -> str:
  """The reason why the kernel cannot compute these shapes; "" if it can."""
  del q, k, v  # Any sizes, widths and dtypes will do.
  target = context.current_target()
  if target.platform != "tpu":
    return "there is no TPU"
  if target.devices > 1 and context.current_layout() is None:
    return "the compiler cannot split it over devices"
  if mask is not None and mask.shape[1] > 1 and mask.shape[2] > 1:
    return "its masks are of queries or of keys, not of pairs"
  if causal is not None and not isinstance(causal, int):
    return "its causal rule must be known when the program is compiled"
  return ""


def attend(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: Bool[Array, "#B #N #M"] | None = None,
    constants: Float[Array, "B M H"] | None = None,
    *,
    scale: float | None = None,
    blocks: tuple[int, int] | None = None,
    causal: int | None = None,
) -> Float[Array, "B N H V"]:
  """The result of attention, as in `softmax.attend`.

  Args:
    q: queries.
    k: keys.
    v: values; None: the keys are the values.
    mask: True where a query may see a key; the same for all queries, or for all
      keys.
    constants: added to all scores of a key.
    scale: scale of the products of queries and keys; None: 1 / √F.
    blocks: queries and keys of a block; None: by the sizes.
    causal: query i may see key j if j ≤ i + causal; None: any. Blocks without
      such pairs are not computed.
  """
  v = k if v is None else v
  factor = q.shape[-1] ** -0.5 if scale is None else scale
  # The kernel has no scale: q's rounding is the price.
  q = (q.astype(jnp.float32) * factor).astype(q.dtype)
  q, k = with_constants(q, k, constants, 1.0)
  (batch, queries, _, _), keys = q.shape, k.shape[1]
  rows, columns = blocks or blocks_for(q, k, v)
  q = _lengthened(q, rows)
  k, v = (_lengthened(x, columns) for x in (k, v))
  sees_any = rules.sees_any(mask, queries, causal)
  segments = None
  if mask is not None or k.shape[1] > keys:
    if mask is None:
      mask = jnp.ones([1, 1, 1], bool)
    segments = _segments(mask, batch, queries, keys, q.shape[1], k.shape[1])
  kernel = _kernel(q.shape[2], q.shape[1], k.shape[1], rows, columns, causal)
  by_head = (x.swapaxes(1, 2) for x in (q, k, v))
  y: Any = jax.vmap(kernel)(*by_head, segments)
  y = y.swapaxes(1, 2)[:, :queries]
  if sees_any is None:
    return y
  # It lets a query that may see no key read all of them.
  return jnp.where(sees_any[..., None, None], y, 0)


def blocks_for(
    q: Any, k: Any, v: Any, constants: Any = None
) -> tuple[int, int]:
  """`blocks_of` for arguments of `attend`."""
  features = q.shape[-1] + (0 if constants is None else 1)
  width = max(features, 0 if v is None else v.shape[-1])
  return blocks_of(q.shape[1], k.shape[1], width * q.dtype.itemsize)


def blocks_of(queries: int, keys: int, width: int) -> tuple[int, int]:
  """Block sizes of queries and keys, which are padded to multiples of them.

  They are those with the least rows to compute: those of the padding, and a
  fixed cost of each block, among them.

  Args:
    queries: number of queries.
    keys: number of keys.
    width: bytes of a head's features.
  """
  most = next((most for up_to, most in _MOST if width <= up_to), _LEAST)

  def block(length, most):
    cost = lambda block: -(-length // block) * (block + _FIXED)
    return min(range(_LANES, most + 1, _LANES), key=cost)

  return block(queries, most[0]), block(keys, most[1])


def with_constants(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    constants: Float[Array, "B M H"] | None,
    scale: float,
) -> tuple[Float[Array, "B N H G"], Float[Array, "B M H G"]]:
  """Queries and keys with an additional feature for the constants."""
  if constants is None:
    return q, k
  more = (constants / scale)[..., None].astype(k.dtype)
  ones = jnp.ones_like(q[..., :1])
  return jnp.concatenate([q, ones], -1), jnp.concatenate([k, more], -1)


def _segments(mask, batch, queries, keys, rows, columns):
  """Segment ids: 1 for visible keys and for queries, 0 for hidden keys."""
  # Only TPUs need it, and no other part of JAX promises to keep it.
  from jax.experimental.pallas.ops.tpu import splash_attention

  def ids(visible, length, padded, hidden):
    shape = (batch, length)
    visible = jnp.broadcast_to(visible, shape)
    ones = jnp.where(visible, 1, hidden).astype(jnp.int32)
    return jnp.pad(ones, [(0, 0), (0, padded - length)], constant_values=hidden)

  # A hidden query is of no segment; what it reads is thrown away.
  return splash_attention.SegmentIds(
      ids(mask.any(2), queries, rows, 2), ids(mask.any(1), keys, columns, 0)
  )


@functools.cache
def _kernel(heads, queries, keys, rows, columns, causal):
  """The kernel for these sizes, without a mask or with the causal rule."""
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  sizes = splash.BlockSizes(
      block_q=rows,
      block_kv=columns,
      block_kv_compute=columns,
      block_q_dkv=rows,
      block_kv_dkv=columns,
      block_kv_dkv_compute=columns,
      use_fused_bwd_kernel=True,
  )
  shape = queries, keys
  mask: Any = splash.FullMask(shape)
  if causal is not None:
    mask = splash.CausalMask(shape, causal)
  mask = splash.MultiHeadMask([mask] * heads)
  with jax.ensure_compile_time_eval():
    return splash.make_splash_mha(
        mask=mask,
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        residual_checkpoint_name=KEPT,
    )


def _lengthened(x, multiple):
  """x padded with rows of zeros to a multiple."""
  rows = -x.shape[1] % multiple
  return jnp.pad(x, [(0, 0), (0, rows), (0, 0), (0, 0)]) if rows else x
