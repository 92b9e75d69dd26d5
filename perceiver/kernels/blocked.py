"""Exact attention in blocks, without the array of all scores.

Keys are read a block after the other with a softmax that is corrected as larger
scores appear; the backward pass computes the scores again. So memory grows with
N + M, not with N · M, for any widths and any mask.

Axes: B examples, N queries, M keys, H heads, F query and key features of a
head, V value features of a head.

Source: Milakov and Gimelshein 2018 (online softmax); Rabe and Staats 2021
(attention in O(√N) memory); Dao et al. 2022 (the backward pass).
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver.kernels import causal as rules
from perceiver.kernels.causal import Offset
from perceiver.learned import kept

# A body (carry, first row, number of rows) -> (carry, rows of the results).
Body = Callable[[Any, Any, int], tuple[Any, Any]]


def attend(
    q: Float[Array, "B N H F"],
    k: Float[Array, "B M H F"],
    v: Float[Array, "B M H V"] | None,
    mask: Bool[Array, "#B _ #M"] | None = None,  # Rows of all parts.
    constants: Float[Array, "B M H"] | None = None,
    *,
    scale: float | None = None,
    queries: int = 1024,
    keys: int = 1024,
    axis: str | None = None,
    causal: Offset | None = None,
) -> Float[Array, "B N H V"]:
  """The result of attention by head; a query without visible keys gets 0.

  Blocks in which no query may see a key by the causal rule are not computed.

  Args:
    q: queries.
    k: keys.
    v: values; None: the keys are the values, and are read once.
    mask: True where a query may see a key.
    constants: added to all scores of a key.
    scale: scale of the products of queries and keys; None: 1 / √F.
    queries: maximum number of queries of a block.
    keys: maximum number of keys of a block.
    axis: the name of a mapped axis (as `jax.shard_map` has) over which queries
      and keys are split, in its order: all but the mask are parts; it has this
      part's keys for all queries. Scores stay where the keys are.
    causal: query i may see key j if j ≤ i + causal; None: any. With `axis`, i
      counts all queries and j this part's keys.

  Returns:
    what the queries read of all keys, in the dtype of v; sums are in float32.
  """
  sizes = block_size(q.shape[1], queries), block_size(k.shape[1], keys)
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  mask = None if mask is None else mask[:, None]
  if constants is not None:  # Like a mask: a row that all queries share.
    constants = constants.swapaxes(1, 2)[:, :, None].astype(jnp.float32)
  by_head = [None if x is None else jnp.swapaxes(x, 1, 2) for x in (q, k, v)]
  offset = None if causal is None else jnp.asarray(causal, jnp.int32)
  y: Any = _attend((*sizes, scale), axis, *by_head, mask, constants, offset)
  return jnp.swapaxes(y, 1, 2)


def block_size(length: int, most: int) -> int:
  """Rows of a block: all blocks are equal if that does not halve them."""
  even = next(n for n in range(min(length, most), 0, -1) if length % n == 0)
  return even if 2 * even > min(length, most) else most


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(how, axis, q, k, v, mask, constants, offset):
  return _forward(how, axis, q, k, v, mask, constants, offset)[0]


def _forward(how, axis, q, k, v, mask, constants, offset):
  """The result, and the residuals for the backward pass."""
  *sizes, scale = how
  every = _gathered(q, axis)

  def tile(carry: Any, row, size):
    read = functools.partial(_read, q=_rows(every, row, size), k=k, v=v)
    return carry, read(
        mask=_rows(mask, row, size),
        constants=constants,
        offset=None if offset is None else offset + row,
        scale=scale,
        keys=sizes[1],
    )

  _, (y, normaliser) = _over_blocks(tile, None, every.shape[2], sizes[0])
  if axis is not None:
    y, normaliser = _merged(y, normaliser, axis)
  # Nothing was there to see: no -∞, from which nothing can be subtracted.
  normaliser = jnp.where(jnp.isfinite(normaliser), normaliser, 0)
  y, normaliser = kept(y), kept(normaliser)
  return y, (q, k, v, mask, constants, offset, y, normaliser)


def _merged(y, normaliser, axis):
  """This part's rows of the merged result, and the merged normaliser."""
  top = jax.lax.pmax(normaliser, axis)
  shift = jnp.maximum(top, jnp.finfo(jnp.float32).min)  # Not -∞.
  weight = jnp.exp(normaliser - shift)
  scatter = functools.partial(
      jax.lax.psum_scatter, axis_name=axis, scatter_dimension=2, tiled=True
  )
  total = scatter(weight)
  read = scatter(y * weight) / jnp.where(total == 0, 1, total)
  whole = shift + jnp.log(jax.lax.psum(weight, axis))
  return read.astype(y.dtype), whole


def _gathered(x, axis):
  """The rows of all parts."""
  if axis is None:
    return x
  return jax.lax.all_gather(x, axis, axis=2, tiled=True)


def _read(q, k, v, mask, constants, offset, scale, keys):
  """The result for some queries over all keys, and log Σ exp(scores)."""

  def block(carry: Any, row, size):
    y, top, total = carry
    rows = _rows(k, row, size)
    visible, added = (_columns(x, row, size) for x in (mask, constants))
    ahead = None if offset is None else offset - row
    scores = _scores(scale, q, rows, visible, added, ahead)
    new_top = jnp.maximum(top, scores.max(-1, keepdims=True))
    shift = jnp.maximum(new_top, jnp.finfo(jnp.float32).min)  # Not -∞.
    weights, correction = jnp.exp(scores - shift), jnp.exp(top - shift)
    total = total * correction + weights.sum(-1, keepdims=True)
    values = rows if v is None else _rows(v, row, size)
    y = y * correction + _product(weights.astype(values.dtype), values)
    return (y, new_top, total), None

  # Like q, so that they are split over devices as it is.
  column = jnp.zeros_like(q[..., :1], jnp.float32)
  width = (k if v is None else v).shape[3]
  start = column + jnp.zeros(width), column - jnp.inf, column
  # The last of these queries sees most.
  seen = None if offset is None else (0, offset + q.shape[2])
  (y, top, total), _ = _over_blocks(block, start, k.shape[2], keys, seen)
  normaliser = top + jnp.log(total)
  total = jnp.where(total == 0, 1, total)  # Nothing was there to see.
  return (y / total).astype((k if v is None else v).dtype), normaliser


def _backward(how, axis, residuals, dy):
  *sizes, scale = how
  q, k, v, mask, constants, offset, y, normaliser = residuals
  q, y, dy = (_gathered(x, axis) for x in (q, y, dy))
  zeros_like = functools.partial(jnp.zeros_like, dtype=jnp.float32)
  dot = (dy.astype(jnp.float32) * y).sum(-1, keepdims=True)

  def block(dq: Any, row, size):
    keys = _rows(k, row, size)
    values = keys if v is None else _rows(v, row, size)
    visible, added = (_columns(x, row, size) for x in (mask, constants))
    first_key = row

    def tile(carry: Any, row, size):
      dq, dk, dv, dadded = carry
      part = functools.partial(_rows, row=row, size=size)
      ahead = None if offset is None else offset + row - first_key
      scores = _scores(scale, part(q), keys, part(visible), added, ahead)
      weights = jnp.exp(scores - part(normaliser))
      of_values = _product_t(weights.astype(dy.dtype), part(dy))
      dweights = _product(part(dy), values.swapaxes(2, 3))
      dscores = weights * (dweights - part(dot))
      if added is not None:
        dadded += dscores.sum(2, keepdims=True)
      dscores = (scale * dscores).astype(k.dtype)
      dk += _product_t(dscores, part(q))
      if v is None:
        dk += of_values
      else:
        dv += of_values
      new = part(dq) + _product(dscores, keys)
      dq = jax.lax.dynamic_update_slice_in_dim(dq, new, row, axis=2)
      return (dq, dk, dv, dadded), None

    start = dq, *(
        None if x is None else zeros_like(x)
        for x in (keys, None if v is None else values, added)
    )
    # The first query that sees any of these keys, and all after it.
    seen = None if offset is None else (first_key - offset, q.shape[2])
    (dq, dk, dv, dadded), _ = _over_blocks(
        tile, start, q.shape[2], sizes[0], seen
    )
    dv = None if v is None else dv.astype(v.dtype)
    # Rows, as those of keys: they are joined along the same axis.
    dadded = None if added is None else dadded.swapaxes(2, 3)
    return dq, (dk.astype(k.dtype), dv, dadded)

  dq, (dk, dv, dadded) = _over_blocks(
      block, zeros_like(q), k.shape[2], sizes[1]
  )
  if axis is not None:
    dq = jax.lax.psum_scatter(dq, axis, scatter_dimension=2, tiled=True)
  dadded = None if dadded is None else dadded.swapaxes(2, 3)
  return dq.astype(q.dtype), dk, dv, None, dadded, None


_attend.defvjp(_forward, _backward)


def _scores(scale, q, k, mask, constants, ahead):
  """Scores of a block; `ahead` is the causal rule's offset in it."""
  scores = scale * _product(q, k.swapaxes(2, 3))
  if constants is not None:
    scores += constants
  if ahead is not None:
    queries, keys = scores.shape[2:]
    rule = rules.visible(queries, keys, ahead)[None]
    scores = jnp.where(rule, scores, -jnp.inf)
  return scores if mask is None else jnp.where(mask, scores, -jnp.inf)


def _product(x, y):
  return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def _product_t(x, y):
  return jnp.einsum("bhnm,bhnv->bhmv", x, y, preferred_element_type=jnp.float32)


def _over_blocks(
    body: Body, carry: Any, length: int, size: int, within: Any = None
) -> tuple[Any, Any]:
  """Calls the body for each block; joins the rows of its results.

  Args:
    body: function of a block.
    carry: initial value of the carry.
    length: rows in all.
    size: size of a block.
    within: the first row that is needed, and the end of those that are: blocks
      without any are left out, and there are no results to join. None: all.
  """
  if within is not None:
    return _over_some_blocks(body, carry, length, size, *within), None

  def join(stacked):
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 2).reshape(
            *x.shape[1:3], -1, *x.shape[4:]
        ),
        stacked,
    )

  count, rest = divmod(length, size)
  if count == 1:
    carry, rows = body(carry, 0, size)
  else:
    carry, stacked = jax.lax.scan(
        lambda carry, row: body(carry, row, size),
        carry,
        size * jnp.arange(count),
    )
    rows = join(stacked)
  if rest:
    carry, last = body(carry, count * size, rest)
    rows = jax.tree.map(lambda *x: jnp.concatenate(x, axis=2), rows, last)
  return carry, rows


def _over_some_blocks(body: Any, carry, length, size, first, end):
  count, rest = divmod(length, size)
  carry = jax.lax.fori_loop(
      jnp.clip(first // size, 0, count),
      jnp.clip(-(-end // size), 0, count),
      lambda i, carry: body(carry, i * size, size)[0],
      carry,
  )
  if not rest:
    return carry
  last = lambda carry: body(carry, count * size, rest)[0]
  is_needed = (first < length) & (end > count * size)
  return jax.lax.cond(is_needed, last, lambda carry: carry, carry)


def _rows(x, row, size, axis=2) -> Any:
  """Rows of x; x itself if it has one row or is None."""
  if x is None or x.shape[axis] == 1:
    return x
  return jax.lax.dynamic_slice_in_dim(x, row, size, axis)


def _columns(x, row, size) -> Any:
  return _rows(x, row, size, axis=3)
