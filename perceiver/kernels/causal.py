"""The rule of causal attention: query i may see key j if j ≤ i + offset.

No form but the plain one makes an array of it. With the newest N of M elements
as queries, the offset is M - N.

Axes: B examples, N queries, M keys.
"""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Int

# Known when the program is compiled, or, on a device that has a part of the
# queries or keys, when it runs.
Offset = int | Int[Array, ""]


def visible(
    queries: int, keys: int, offset: Offset
) -> Bool[Array, "1 {queries} {keys}"]:
  """True where a query may see a key."""
  of_query = jax.lax.broadcasted_iota(jnp.int32, (1, queries, keys), 1)
  of_key = jax.lax.broadcasted_iota(jnp.int32, (1, queries, keys), 2)
  return of_key <= of_query + offset


def with_mask(
    mask: Bool[Array, "#B #N #M"] | None,
    queries: int,
    keys: int,
    offset: Offset | None,
) -> Bool[Array, "#B #N #M"] | None:
  """The mask and the rule as one array; without a rule, the mask."""
  if offset is None:
    return mask
  rule = visible(queries, keys, offset)
  return rule if mask is None else rule & mask


def sees_any(
    mask: Bool[Array, "#B #N #M"] | None, queries: int, offset: Offset | None
) -> Bool[Array, "#B #N"] | None:
  """Whether a query may see any key; None: all of them do.

  An array of N × M only if the mask is one.
  """
  if offset is None:
    return None if mask is None else mask.any(-1)
  if mask is None:
    if isinstance(offset, int) and offset >= 0:
      return None
    return (jnp.arange(queries) + offset >= 0)[None]
  if mask.shape[2] == 1:  # Of queries.
    return mask[..., 0] & (jnp.arange(queries) + offset >= 0)
  if mask.shape[1] == 1:  # Of keys.
    first = jnp.where(mask.any(-1), mask.argmax(-1), mask.shape[2])  # [#B, 1]
    return first <= jnp.arange(queries) + offset
  return (mask & visible(queries, mask.shape[2], offset)).any(-1)
