"""Sampling of elements, one after the other, from a model's logits.

Axes: B examples, V ids.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float
from jaxtyping import Int

State = Any  # Of a model: a tree of arrays.


class Choice(NamedTuple):
  """Sampling settings; changing them needs no compilation."""

  temperature: float | Array = 1.0  # 0: the likeliest.
  top_k: int | Array = 0  # So many of the likeliest alone; 0: all.
  # The fewest of the likeliest that have so much of the probability together.
  top_p: float | Array = 1.0


def draw(
    logits: Float[Array, "B V"], key: Array, choice: Choice
) -> Int[Array, "B"]:
  """A sampled id for each example.

  The temperature is applied first, then top-k, then top-p.

  Source: Holtzman et al., 2020 (top_p).
  """
  logits = logits.astype(jnp.float32)
  heated = logits / jnp.maximum(choice.temperature, 1e-6)
  falling = -jnp.sort(-heated, axis=-1)
  ids = logits.shape[-1]
  top_k = jnp.where(jnp.asarray(choice.top_k) > 0, choice.top_k, ids)
  among = jnp.arange(ids) < top_k
  chances = jax.nn.softmax(jnp.where(among, falling, -jnp.inf))
  before = jnp.cumsum(chances, axis=-1) - chances
  among &= (before < choice.top_p) | (jnp.arange(ids) == 0)
  least = jnp.min(jnp.where(among, falling, jnp.inf), axis=-1, keepdims=True)
  drawn = jax.random.categorical(
      key, jnp.where(heated >= least, heated, -jnp.inf)
  )
  return jnp.where(choice.temperature > 0, drawn, logits.argmax(-1))


def continued(
    fill: Callable[[Int[Array, "B W"]], tuple[Array, State]],
    step: Callable[[Int[Array, "B"], State], tuple[Array, State]],
    window: Int[Array, "B W"],
    key: Array,
    *,
    number: int,
    steps_per_fill: int,
    choice: Choice,
    padding: int,
    stop: int | None = None,
    never: Sequence[int] = (),
) -> Int[Array, "B {number}"]:
  """The continuation of each example, by a model with a cache.

  All elements are generated in one loop of one program. The cache has a limited
  size: when it is full, it is filled again with the newest elements.

  Args:
    fill: the newest elements -> logits [B, V] of the next one, and a cache.
    step: one element and the cache -> logits and the cache.
    window: the given elements, the newest at the end, padded at the front.
    key: random key.
    number: number of elements to generate.
    steps_per_fill: elements that are generated until `fill` is called again.
    choice: sampling settings.
    padding: the id after `stop`, which is never generated.
    stop: the id after which an example has ended; None: none.
    never: further ids that are never generated.

  Returns:
    the generated ids, up to and including `stop`, then `padding`.
  """
  batch, length = window.shape
  tokens = jnp.pad(window, [(0, 0), (0, number)], constant_values=padding)
  hidden = jnp.asarray([padding, *never])
  like = jax.eval_shape(fill, window)[1]
  empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
  start = 0, tokens, jnp.zeros([batch], bool), empty

  def go_on(carry) -> Bool[Array, ""]:
    done, _, ended, _ = carry
    return (done < number) & ~ended.all()

  def one_more(carry):
    done, tokens, ended, state = carry

    def fill_again(state):
      del state
      return fill(jax.lax.dynamic_slice_in_dim(tokens, done, length, axis=1))

    def add_one(state):
      newest = jax.lax.dynamic_slice_in_dim(tokens, length + done - 1, 1, 1)
      return step(newest[:, 0], state)

    logits, state = jax.lax.cond(
        done % steps_per_fill == 0, fill_again, add_one, state
    )
    logits = logits.astype(jnp.float32).at[:, hidden].set(-jnp.inf)
    ids = draw(logits, jax.random.fold_in(key, done), choice)
    ids = jnp.where(ended, padding, ids).astype(tokens.dtype)
    tokens = jax.lax.dynamic_update_slice_in_dim(
        tokens, ids[:, None], length + done, axis=1
    )
    if stop is not None:
      ended |= ids == stop
    return done + 1, tokens, ended, state

  return jax.lax.while_loop(go_on, one_more, start)[1][:, length:]
