"""softmax(scale · q kᵀ + constants) v, by the best implementation.

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
from perceiver.kernels import blocked
from perceiver.kernels import causal as rules
from perceiver.kernels import fused
from perceiver.kernels import splash
from perceiver.kernels.causal import Offset
from perceiver.learned import kept

# Queries and keys of a block. On a CPU its scores shall stay in the caches; an
# accelerator needs more of them to have enough to do.
_BLOCKS = {"cpu": (512, 1024)}
_LARGE_BLOCKS = (2048, 2048)
# The plain form may fill this part of an accelerator's memory with scores: the
# backward pass keeps them, and their gradients beside them.
_SHARE_FOR_SCORES = 1 / 32
# By the TPU compiler's estimates the plain form is as fast as its kernel, or
# faster, with few queries or keys, whose arrays the kernel wants by head, and
# with heads of more bytes than these, for which its blocks are small. Kernels
# need less memory.
_FEW, _FEW_SCORES = 256, 2**19
_WIDE = 1024
_SHARE_ON_TPU = 1 / 4


def attend(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: Bool[Array, "#B #N #M"] | None = None,
    *,
    scale: float | None = None,
    constants: Float[Array, "B M H"] | None = None,
    causal: int | None = None,
) -> Float[Array, "B N H V"]:
  """The result of attention by head; a query without visible keys gets 0.

  A key that no query may see, such as padding, changes nothing, even if it is
  not a number. The values and gradients are the same, but for rounding,
  whichever implementation `attend_by` or its automatic choice takes.

  Args:
    q: queries.
    k: keys.
    v: values; None: the keys are the values, and are read once.
    mask: True where a query may see a key.
    scale: scale of the products of queries and keys; None: 1 / √F.
    constants: added to all scores of a key.
    causal: query i may see key j only if j ≤ i + causal, beside the mask; None:
      any. With the newest N of M elements as queries, M - N.

  Returns:
    what the queries read, in the dtype of v; sums are taken in float32.

  Raises:
    ValueError: if `attend_by` asks for what cannot compute these shapes here.
  """
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  layout = context.current_layout()
  last = k.shape[1] if causal is None else q.shape[1] + causal
  if layout is None and 0 < last < k.shape[1]:
    seen = slice(last)  # By the last query, which sees most.
    k, v = k[:, seen], None if v is None else v[:, seen]
    constants = None if constants is None else constants[:, seen]
    if mask is not None and mask.shape[2] > 1:
      mask = mask[:, :, seen]
  if mask is not None:  # Zero times what is not finite is not a number.
    k = _where_seen(k, mask)
    v = None if v is None else _where_seen(v, mask)
    constants = None if constants is None else _where_seen(constants, mask)
  if layout is not None:
    compute = functools.partial(_attend, scale=scale)
    return layout.attend(compute, q, k, v, mask, constants, causal)
  return _attend(q, k, v, mask, constants, causal, scale=scale)


def _where_seen(x: Array, mask: Array) -> Array:
  """x [B, M, ...], with 0 for elements that no query may see."""
  seen = mask.any(axis=1)  # [#B, #M]
  seen = seen.reshape(*seen.shape, *[1] * (x.ndim - 2))
  return jnp.where(seen, x, jnp.zeros([], x.dtype))


def _attend(
    q, k, v, mask, constants=None, causal=None, *, scale=None, axis=None
):
  """As `attend`; with `axis` for parts, as in `blocked.attend`."""
  name = "blocked"
  if axis is None:
    name = _choose(q, k, v, mask, constants, causal)
  note = f"{name}, {q.shape[1]:,} × {k.shape[1]:,}"
  if name == "tpu":
    rows, columns = splash.blocks_for(q, k, v, constants)
    note += f" in blocks of {rows:,} × {columns:,}"
  context.note_taken(note)
  if name == "blocked":
    queries, keys = _BLOCKS.get(
        context.current_target().platform, _LARGE_BLOCKS
    )
    return blocked.attend(
        q,
        k,
        v,
        mask,
        constants,
        scale=scale,
        queries=queries,
        keys=keys,
        axis=axis,
        causal=causal,
    )
  compute = {"plain": plain, "cudnn": fused.cudnn, "tpu": splash.attend}[name]
  return compute(q, k, v, mask, constants, scale=scale, causal=causal)


def attention_scores(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    mask: Bool[Array, "#B #N #M"] | None = None,
    constants: Float[Array, "B M H"] | None = None,
    scale: float | None = None,
) -> Float[Array, "B H N M"]:
  """The scores before the softmax, in float32; see `attend`.

  It is -∞ where a query may not see a key.
  """
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  products: Any = _product("bnhf,bmhf->bhnm", q, k)
  scores = scale * products
  if constants is not None:
    scores += constants.swapaxes(1, 2)[:, :, None].astype(jnp.float32)
  return scores if mask is None else jnp.where(mask[:, None], scores, -jnp.inf)


def attention_weights(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    mask: Bool[Array, "#B #N #M"] | None = None,
    constants: Float[Array, "B M H"] | None = None,
    scale: float | None = None,
) -> Float[Array, "B H N M"]:
  """The softmax of scores in float32; 0 for a query without visible keys."""
  scores = attention_scores(q, k, None, constants, scale)
  return _softmax(scores, None if mask is None else mask[:, None])


def _softmax(scores, mask):
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  # With these two, weights are computed again without another reduction.
  most = kept(jax.lax.stop_gradient(scores.max(-1, initial=-jnp.inf)))
  weights = jnp.exp(scores - most[..., None])
  weights /= kept(weights.sum(-1))[..., None]
  return weights if mask is None else jnp.where(mask, weights, 0.0)


# What JAX derives keeps the weights in float32 as well, and multiplies by them.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weights(dtype: Any, scores, mask):
  """The softmax, rounded."""
  return _softmax(scores, mask).astype(dtype)


def _weights_forward(dtype, scores, mask):
  weights = _weights(dtype, scores, mask)
  return weights, weights


def _weights_backward(dtype, weights, dweights):
  del dtype
  weights, dweights = (x.astype(jnp.float32) for x in (weights, dweights))
  along = (weights * dweights).sum(-1, keepdims=True)
  return weights * (dweights - along), None  # 0 where a key is hidden.


_weights.defvjp(_weights_forward, _weights_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(axes: str, x, y):
  """Einstein's sum in float32; its gradient multiplies in the dtype of x."""
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)


def _product_backward(axes, residuals, dz):
  x, y = residuals
  (of_x, of_y), of_z = axes.split("->")[0].split(","), axes.split("->")[1]
  dz = dz.astype(x.dtype)
  dx: Any = _product(f"{of_z},{of_y}->{of_x}", dz, y)
  dy: Any = _product(f"{of_z},{of_x}->{of_y}", dz, x)
  return dx.astype(x.dtype), dy.astype(y.dtype)


_product.defvjp(
    lambda axes, x, y: (_product(axes, x, y), (x, y)), _product_backward
)


def _row_by_row(x: Float[Array, "B M H F"]) -> Float[Array, "B M H F"]:
  """x, on a TPU with the features of an element beside each other in memory.

  Otherwise XLA takes a layout in which examples are beside each other, for
  which the norm of the array and its gradient take several times as long.
  """
  from jax.experimental import layout  # Promised to no one.

  target = context.current_target()
  is_whole = target.devices > 1 and context.current_layout() is None
  if target.platform != "tpu" or is_whole or x.shape[2] > 1:
    return x
  rows = layout.with_layout_constraint(x[:, :, 0], layout.Layout((0, 1, 2)))
  return rows[:, :, None]


def plain(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: Bool[Array, "#B #N #M"] | None = None,
    constants: Float[Array, "B M H"] | None = None,
    *,
    scale: float | None = None,
    causal: Offset | None = None,
) -> Float[Array, "B N H V"]:
  """`attend` as the formula is written: all scores at once."""
  k = _row_by_row(k)
  v = k if v is None else _row_by_row(v)
  mask = rules.with_mask(mask, q.shape[1], k.shape[1], causal)
  scores = attention_scores(q, k, None, constants, scale)
  weights = _weights(v.dtype, scores, None if mask is None else mask[:, None])
  y: Any = _product("bhnm,bmhv->bnhv", weights, v)
  return y.astype(v.dtype)


def _choose(q, k, v, mask, constants=None, causal=None) -> str:
  """The requested implementation, or the best one."""
  v = k if v is None else v
  asked, target = context.requested_implementation(), context.current_target()
  problems = {
      "cudnn": lambda: fused.why_not_cudnn(q, k, v, mask, constants, causal),
      "tpu": lambda: splash.why_not(q, k, v, mask, causal),
  }
  if asked in problems and (problem := problems[asked]()):
    raise ValueError(f"attention {asked!r} is impossible here: {problem}.")
  if asked != context.AUTO:
    return asked
  if target.platform == "cpu":  # Faster at every shape that was measured.
    return "blocked"
  (batch, queries, heads, _), keys = q.shape, k.shape[1]
  # A layout shows each device its own part, the compiler shows the whole.
  sharing = target.devices if context.current_layout() is None else 1
  size = 4 * batch * heads * queries * keys // sharing / target.memory
  if target.platform == "tpu":
    few = min(queries, keys) <= _FEW and queries * keys <= _FEW_SCORES
    width = max(q.shape[-1], v.shape[-1]) * q.dtype.itemsize
    if (few or width > _WIDE) and size <= _SHARE_ON_TPU:
      return "plain"
  for name, problem in problems.items():
    if not problem():
      return name
  return "blocked" if size > _SHARE_FOR_SCORES else "plain"
