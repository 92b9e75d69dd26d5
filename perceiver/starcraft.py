"""Sets of units: their embedding, and a pointer network that selects some.

Source: Perceiver IO, appendix B; AlphaStar.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math

import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float
from jaxtyping import Int

from perceiver.attention import Linear
from perceiver.learned import LearnedArray


@dataclasses.dataclass(frozen=True)
class OneHot:
  """One-hot encoding of an integer, clipped to `size` values."""

  size: int
  divide: int = 1  # First; what is left over is dropped.
  power: float = 1.0  # Then; 0.5 is a root. The whole part counts.
  offset: int = 0  # Then; so that the least is 0.

  def index(self, values: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """Which of the values, from 0 to `size`."""
    values = values // self.divide
    if self.power != 1.0:
      values = jnp.maximum(values, 0).astype(jnp.float32) ** self.power
      # A root of a square may come out a little below it.
      values = jnp.floor(values + 1e-4).astype(jnp.int32)
    return jnp.clip(values + self.offset, 0, self.size - 1)


@dataclasses.dataclass(frozen=True)
class Bits:
  """A whole number in binary, the last digit first."""

  size: int

  def channels(self, values: Int[Array, "*B"]) -> Float[Array, "*B _"]:
    """One channel per digit, 0 or 1."""
    digits = values[..., None] >> jnp.arange(self.size)
    return (digits & 1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Scaled:
  """A number divided by `by`."""

  by: float

  def channels(self, values: Int[Array, "*B"]) -> Float[Array, "*B 1"]:
    """One channel."""
    return values[..., None].astype(jnp.float32) / self.by


Code = OneHot | Bits | Scaled


def units(
    features: Int[Array, "B M F"],
    names: Sequence[str],
    codes: Mapping[str, Sequence[Code]],
    channels: int,
) -> Float[Array, "B M {channels}"]:
  """Embeddings of units: the sum of the embeddings of their features.

  Args:
    features: integers; the order of units does not matter.
    names: names of the features, in the order of their axis.
    codes: one or several encodings of each feature; features that are not named
      here are not used.
    channels: channels of the sum.

  Returns:
    the input array.

  Raises:
    ValueError: if there are more or fewer features than names, or a code is of
      a feature that there is not.

  Source: Perceiver IO, appendix B; AlphaStar's published encoder.
  """
  if len(names) != features.shape[-1]:
    raise ValueError(f"{features.shape[-1]} features, but {len(names)} names")
  used = [(name, code) for name, each in codes.items() for code in each]
  numbers, x = [], 0.0
  with hk.name_scope("units"):
    for name, code in used:
      if name not in names:
        raise ValueError(f"there is no feature {name!r} among {list(names)}")
      values = features[..., names.index(name)]
      if isinstance(code, OneHot):
        # Of the sum, each feature has its part: it has a deviation of 1.
        w_init = hk.initializers.TruncatedNormal(1 / math.sqrt(len(used)))
        embed = hk.Embed(code.size, channels, w_init=w_init, name=name)
        x += embed(code.index(values))
      else:
        numbers.append(code.channels(values))
    if numbers:
      sums = Linear(channels, "numbers")(jnp.concatenate(numbers, axis=-1))
      x += sums.astype(jnp.result_type(x))  # What embeddings are read in.
  return jnp.broadcast_to(x, (*features.shape[:2], channels))


def entities(
    y: Float[Array, "B M C"], mask: Bool[Array, "B M"], channels: int
) -> tuple[Float[Array, "B M {channels}"], Float[Array, "B {channels}"]]:
  """The outputs of AlphaStar's entity encoder.

  Args:
    y: output array, one output per slot.
    mask: False at empty slots.
    channels: channels of both results.

  Returns:
    `entity_embeddings`, one for each unit, 0 at empty slots; and
    `embedded_entity`, one for all units, of zeros' linear map without any.

  Source: Perceiver IO, appendix B.
  """
  seen = mask[:, :, None]
  each = Linear(channels, "entity_embeddings")(jax.nn.relu(y))
  count = jnp.maximum(seen.sum(axis=1), 1)
  mean = jnp.where(seen, y, 0).sum(axis=1) / count
  whole = jax.nn.relu(Linear(channels, "embedded_entity")(mean))
  return jnp.where(seen, each, 0), whole


@dataclasses.dataclass(frozen=True)
class Pointer:
  """Picks a set of elements one by one, until it picks the end.

  Picks are indices of elements, [B, K]; M is the end, and all that follows it.
  """

  keys: Float[Array, "B M F"]
  end: Float[Array, "F"]
  mask: Bool[Array, "B M"]  # True where an element may be picked.
  # From the mean of the picked keys, the last one, both [..., F], and how many
  # there are, [..., 1], to the next step's query.
  query: Callable[[Array, Array, Array], Array]

  def log_probs(
      self, picks: Int[Array, "B K"]
  ) -> Float[Array, "B K {self.keys.shape[1]+1}"]:
    """Log-probabilities of each step's pick, given the steps before.

    What was picked has no probability any more; nor has the end at the first
    step, unless nothing may be picked.
    """
    num_elements = self.keys.shape[1]
    chosen = jax.nn.one_hot(picks, num_elements, dtype=self.keys.dtype)
    before = jnp.pad(chosen, [(0, 0), (1, 0), (0, 0)])[:, :-1]
    picked = before.cumsum(axis=1)  # [B, K, M]
    count = picked.sum(-1, keepdims=True)
    mean = picked @ self.keys / jnp.maximum(count, 1)
    return self._step(mean, before @ self.keys, count, picked > 0)

  def _step(self, mean, last, count, picked):
    query = self.query(mean, last, count)  # [B, K, F]
    scores = jnp.concatenate(
        [query @ self.keys.swapaxes(1, 2), (query @ self.end)[..., None]], -1
    ) / jnp.sqrt(query.shape[-1])
    free = self.mask[:, None, :] & ~picked
    may_end = (count > 0) | ~free.any(-1, keepdims=True)
    allowed = jnp.concatenate([free, may_end], axis=-1)
    scores = scores.astype(jnp.float32)
    least = jnp.finfo(scores.dtype).min
    return jax.nn.log_softmax(jnp.where(allowed, scores, least))

  def pick(
      self, num_picks: int, rng: Array | None = None
  ) -> Int[Array, "B {num_picks}"]:
    """A set, by the most likely pick or by sampling at each step.

    Args:
      num_picks: K, the maximum size of the set.
      rng: random key; None: the most likely.
    """
    num_examples, num_elements, _ = self.keys.shape

    def step(picked, k):
      picks, total, last = picked
      is_picked = (picks[:, :, None] == jnp.arange(num_elements)).any(1)
      count = is_picked.sum(-1, keepdims=True)
      mean = total / jnp.maximum(count, 1)
      log_probs = self._step(
          mean[:, None],
          last[:, None],
          count[:, None].astype(mean.dtype),
          is_picked[:, None],
      )[:, 0]
      if rng is None:
        new = log_probs.argmax(-1)
      else:
        new = jax.random.categorical(jax.random.fold_in(rng, k), log_probs)
      has_ended = (k > 0) & (picks[:, k - 1] == num_elements)
      new = jnp.where(has_ended, num_elements, new).astype(jnp.int32)
      last = jax.nn.one_hot(new, num_elements, dtype=total.dtype)
      last = jnp.einsum("bm,bmf->bf", last, self.keys)
      return (picks.at[:, k].set(new), total + last, last), None

    none = jnp.zeros([num_examples, self.keys.shape[-1]], self.keys.dtype)
    picks = jnp.full([num_examples, num_picks], num_elements, jnp.int32)
    start = picks, none, none
    (picks, _, _), _ = jax.lax.scan(step, start, jnp.arange(num_picks))
    return picks


def pointer(
    state: Float[Array, "B D"],
    x: Float[Array, "B M C"],
    mask: Bool[Array, "B M"],
    key_channels: int,
    query_channels: int,
) -> Pointer:
  """A pointer network over an unordered set of elements.

  The query of a step is a function of the state and of the set that was picked
  before, so all steps of a known set are computed at once.

  Args:
    state: further inputs of the choice.
    x: elements.
    mask: True at elements that may be picked.
    key_channels: F, of keys and queries.
    query_channels: channels of the layer that makes queries.

  Source: Perceiver IO, appendix B, names a pointer network; Vinyals et al.,
  2015, what that is. AlphaStar's has an LSTM where this has a mean.
  """
  with hk.name_scope("pointer"):
    keys = Linear(key_channels, "keys")(x)
    end = LearnedArray(1, key_channels, "end")(1)[0, 0].astype(keys.dtype)
    base = Linear(query_channels, "state")(state)[:, None]  # [B, 1, Q]
    width = 2 * key_channels + 1
    w_hidden, w_query = (
        hk.get_parameter(
            name,
            [size, channels],
            keys.dtype,
            init=hk.initializers.VarianceScaling(
                1.0, "fan_in", "truncated_normal"
            ),
        )
        for name, size, channels in (
            ("picked", width, query_channels),
            ("query", query_channels, key_channels),
        )
    )

  def query(mean, last, count):
    picked = jnp.concatenate([mean, last, jnp.log1p(count)], axis=-1)
    return jax.nn.relu(base + picked @ w_hidden) @ w_query

  return Pointer(keys, end, mask, query)


def log_likelihood(
    log_probs: Float[Array, "B K _"], picks: Int[Array, "B K"]
) -> Float[Array, "B"]:
  """Log-likelihood of sets: of their elements and of their end."""
  last = log_probs.shape[-1] - 1
  each = jnp.take_along_axis(log_probs, picks[..., None], axis=-1)[..., 0]
  before = jnp.pad(picks, [(0, 0), (1, 0)])[:, :-1]
  return jnp.where(before == last, 0.0, each).sum(-1)


def picked(
    picks: Int[Array, "B K"], num_elements: int
) -> Bool[Array, "B {num_elements}"]:
  """Which elements are in a set."""
  return (picks[:, :, None] == jnp.arange(num_elements)).any(1)
