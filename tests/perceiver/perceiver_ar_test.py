"""Perceiver AR's modules: what a latent knows, and what is kept of it."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import attend_by
from perceiver import CausalEncoder
from perceiver import CausalProcessor
from perceiver import compute_in
from perceiver import ordered_by
from perceiver import products_in
from perceiver import remember
from perceiver.position import Rotary

M, N, C = 11, 4, 6


def normal(*shape):
  """Numbers that depend on the shape alone."""
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def read(x, mask=None, pos=None, latents=N, is_training=False, dropout=0.0):
  """The latents after a read and two layers."""
  rotary = None if pos is None else Rotary(pos, pos, 0.5, 20.0)
  encoder = CausalEncoder(
      N, 8, num_heads=2, input_dropout=dropout, activation="squared_relu"
  )
  z = encoder(x, mask, rotary, latents, is_training)
  process = CausalProcessor(2, num_heads=2, activation="squared_relu")
  if rotary is not None:
    rotary = rotary.of_newest(latents, latents)
  return process(z, None if mask is None else mask[:, -latents:], rotary)


def transform(function):
  net = hk.transform(function)
  x = jnp.asarray(normal(2, M, C))
  shapes = jax.eval_shape(net.init, jax.random.key(0), x)
  params = jax.tree.map(lambda x: jnp.asarray(0.5 * normal(*x.shape)), shapes)

  def apply(rng, x, mask=None, *args, **settings):
    mask = None if mask is None else jnp.asarray(mask)
    return net.apply(params, rng, jnp.asarray(x), mask, *args, **settings)

  return apply


POSITIONS = jnp.arange(M)[None]


@pytest.mark.parametrize("pos", [None, POSITIONS], ids=["none", "rotary"])
@pytest.mark.parametrize("implementation", ["plain", "blocked"])
def test_a_latent_knows_nothing_of_what_comes_after_it(implementation, pos):
  x = normal(2, M, C)
  apply = jax.jit(transform(read))
  with attend_by(implementation):
    z = np.asarray(apply(None, x, pos=pos))
    for changed in range(M):
      other = x.copy()
      other[:, changed] = 3 * normal(2, C)
      same = np.asarray(apply(None, other, pos=pos)) == z
      first = max(changed - (M - N), 0)  # The first latent that may know it.
      assert same[:, :first].all()
      assert not same[:, first:].all(-1).any()


def test_rotary_positions_tell_distances_alone():
  x = normal(2, M, C)
  apply = transform(read)
  z = apply(None, x, pos=POSITIONS)
  moved = apply(None, x, pos=POSITIONS + 100)
  wider = apply(None, x, pos=2 * POSITIONS)
  np.testing.assert_allclose(z, moved, atol=2e-4)
  assert np.abs(z - wider).max() > 0.01


def test_padding_before_a_sequence_changes_nothing():
  x, padding = normal(2, M, C), 5
  apply = transform(read)
  padded = np.concatenate([9 + normal(2, padding, C), x], axis=1)
  mask = np.broadcast_to(np.arange(M + padding) >= padding, [2, M + padding])
  pos = jnp.arange(M + padding)[None] - padding
  np.testing.assert_allclose(
      apply(None, padded, jnp.asarray(mask), pos),
      apply(None, x, pos=POSITIONS),
      atol=1e-5,
  )


def test_latents_of_padding_are_not_read():
  x, apply = normal(2, M, C), transform(read)
  mask = jnp.asarray(np.arange(M) >= M - 2)[None].repeat(2, 0)
  z = apply(None, x, mask)
  other = np.where(mask[..., None], x, 7.0)
  np.testing.assert_array_equal(z[:, -2:], apply(None, other, mask)[:, -2:])


def test_each_part_of_the_inputs_is_dropped_in_training_alone():
  x = normal(2, M, C)
  apply = transform(functools.partial(read, dropout=0.5))
  key = jax.random.key
  same = apply(key(0), x)
  np.testing.assert_array_equal(same, apply(key(1), x))
  drawn = [apply(key(i), x, is_training=True) for i in range(3)]
  assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
  assert np.abs(drawn[0] - same).max() > 1e-3
  # With all dropped, a latent knows itself and the latents before it.
  apply = transform(functools.partial(read, dropout=1.0))
  z = apply(key(0), x, is_training=True)
  other = x.copy()
  other[:, : M - N] = 3 * normal(2, M - N, C)
  np.testing.assert_array_equal(z, apply(key(0), other, is_training=True))


def test_more_latents_than_elements_are_refused():
  with pytest.raises(ValueError, match="num_latents = 12.*from 1 to 11"):
    transform(functools.partial(read, latents=12))(None, normal(2, M, C))


@pytest.mark.parametrize("order", ["cheapest", "written"])
def test_scores_are_taken_as_written_where_positions_turn_them(order):
  x = normal(2, M, C)
  apply = transform(read)
  with products_in(order), ordered_by() as orders:
    z = apply(None, x, pos=POSITIONS)
  assert {each.scores for _, each in orders.values()} == {"written"}
  assert all(sizes.rotary for sizes, _ in orders.values())
  with products_in("written"):
    expected = apply(None, x, pos=POSITIONS)
  np.testing.assert_allclose(z, expected, atol=1e-5)


@pytest.mark.parametrize("pos", [None, POSITIONS], ids=["none", "rotary"])
def test_with_what_was_kept_the_next_latent_is_the_same(pos):
  start = 7  # Elements that are read at once, two latents among them.
  x = normal(2, M, C)
  mask = np.ones([2, M], bool)
  mask[1, :3] = False

  @functools.partial(jax.jit, static_argnums=0)
  def fill(more, x, mask, pos):
    with remember() as kept:
      z = apply(None, x, mask, pos, latents=2)
    return z, {name: memory.grown(more) for name, memory in kept.items()}

  @jax.jit
  def step(x, pos, kept):
    with remember(kept) as more:
      z = apply(None, x, None, pos, latents=1)
    return z, more

  apply = transform(read)
  part = None if pos is None else pos[:, :start]
  z, kept = fill(M - start, x[:, :start], mask[:, :start], part)
  assert len(kept) == 2
  for i in range(start, M):
    latents = i - start + 3
    here = None if pos is None else pos[:, : i + 1]
    expected = apply(None, x[:, : i + 1], mask[:, : i + 1], here, latents)
    one = None if pos is None else pos[:, i : i + 1]
    z, kept = step(x[:, i : i + 1], one, kept)
    np.testing.assert_allclose(z[:, 0], expected[:, -1], atol=1e-5)


def test_only_one_element_is_added_at_a_time():
  x = normal(2, M, C)
  apply = transform(read)
  with remember() as kept:
    apply(None, x)
  kept = {name: memory.grown(2) for name, memory in kept.items()}
  with pytest.raises(ValueError, match="grows by one element"):
    with remember(kept):
      apply(None, x[:, :2], latents=2)


def test_bfloat16_is_near_float32():
  def half(x, mask=None):
    with compute_in("bfloat16"):
      return read(x, mask, POSITIONS)

  x = normal(2, M, C)
  z = transform(read)(None, x, pos=POSITIONS)
  ours = transform(half)(None, x)
  assert ours.dtype == jnp.bfloat16
  assert np.std(np.asarray(ours, np.float32) - z) < 0.05 * np.std(z)
