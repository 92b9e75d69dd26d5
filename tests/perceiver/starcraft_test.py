"""Sets of units: how they are embedded, and how some of them are picked."""

import functools

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import starcraft
from perceiver.starcraft import Bits
from perceiver.starcraft import OneHot
from perceiver.starcraft import Scaled

NAMES = ("kind", "x", "life")
CODES = {
    "kind": (OneHot(5),),
    "x": (Bits(8), OneHot(4, divide=64)),
    "life": (Scaled(100.0), OneHot(11, power=0.5)),
}


def initialised(forward, *args):
  """Haiku code as a function of its arguments, with its parameters."""
  net = hk.without_apply_rng(hk.transform(forward))
  params = jax.jit(net.init)(jax.random.key(0), *args)
  return jax.jit(functools.partial(net.apply, params)), params


def test_a_number_becomes_one_of_its_values_or_the_nearest():
  values = jnp.array([-3, 0, 1, 4, 99])
  assert OneHot(5).index(values).tolist() == [0, 0, 1, 4, 4]
  assert OneHot(5, offset=2).index(values).tolist() == [0, 2, 3, 4, 4]
  assert OneHot(9, divide=20).index(values).tolist() == [0, 0, 0, 0, 4]
  squares = jnp.array([0, 1, 3, 4, 8, 9, 1521, 1522])
  roots = OneHot(40, power=0.5).index(squares)
  assert roots.tolist() == [0, 1, 1, 2, 2, 3, 39, 39]


def test_binary_codes_begin_with_the_last_digit():
  found = Bits(4).channels(jnp.array([6, 15]))
  assert found.tolist() == [[0, 1, 1, 0], [1, 1, 1, 1]]


def test_units_are_the_sum_of_their_features():
  features = jnp.array([[[2, 130, 49], [2, 130, 9], [4, 130, 49]]])
  embed = lambda x: starcraft.units(x, NAMES, CODES, 13)
  apply, params = initialised(embed, features)
  x = apply(features)
  assert x.shape == (1, 3, 13)
  first = (
      params["units/kind"]["embeddings"][2]
      + params["units/x"]["embeddings"][2]
      + params["units/life"]["embeddings"][7]
      + jnp.array([0, 1, 0, 0, 0, 0, 0, 1, 0.49]) @ params["units/numbers"]["w"]
  )
  np.testing.assert_allclose(x[0, 0], first, atol=1e-5)
  # What is different between units is what their features' parts are.
  kinds = params["units/kind"]["embeddings"]
  np.testing.assert_allclose(x[0, 2] - x[0, 0], kinds[4] - kinds[2], atol=1e-5)


def test_each_unit_has_a_deviation_of_about_one():
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.integers(0, 100, [7, 11, 3]))
  apply, _ = initialised(
      lambda x: starcraft.units(x, NAMES, CODES, 131), features
  )
  assert 0.6 < float(apply(features).std()) < 1.6


def test_a_feature_that_is_not_there_is_named():
  features = jnp.zeros([2, 3, 3], jnp.int32)
  apply = lambda names, codes: initialised(
      lambda x: starcraft.units(x, names, codes, 5), features
  )
  with pytest.raises(ValueError, match="3 features, but 2 names"):
    apply(NAMES[:2], CODES)
  with pytest.raises(ValueError, match="no feature 'y'"):
    apply(NAMES, {"y": (Bits(8),)})


B, M, K, C, D = 2, 7, 5, 11, 13


def some_units(seed=0):
  rng = np.random.default_rng(seed)
  x = jnp.asarray(rng.normal(size=[B, M, C]), jnp.float32)
  state = jnp.asarray(rng.normal(size=[B, D]), jnp.float32)
  mask = jnp.array([[1, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0, 0]], bool)
  return state, x, mask


def pointer_of(state, x, mask):
  """A function from a use of the network to its result."""

  def forward(use, state, x, mask):
    return use(starcraft.pointer(state, x, mask, 17, 19))

  picks = jnp.zeros([B, K], jnp.int32)
  net = hk.without_apply_rng(hk.transform(forward))
  params = net.init(
      jax.random.key(1), lambda p: p.log_probs(picks), state, x, mask
  )
  params = jax.tree.map(lambda p: 1.5 * p, params)  # Far from even chances.

  def run(use, *args):
    apply = jax.jit(lambda *args: net.apply(params, use, *args))
    return apply(*(args or (state, x, mask)))

  return run


def test_what_was_picked_or_is_empty_is_not_picked():
  run = pointer_of(*some_units())
  picks = jnp.array([[3, 0, 5, 7, 7], [2, 1, 3, 7, 7]])
  probs = np.asarray(run(lambda p: jnp.exp(p.log_probs(picks))))
  picks = np.asarray(picks)
  assert probs.shape == (B, K, M + 1)
  np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
  assert (probs[0, :, 6] == 0).all()
  assert (probs[1][:, [0, 4, 5, 6]] == 0).all()
  for row in range(B):
    for step in range(K):
      before = [i for i in picks[row, :step].tolist() if i != M]
      assert all(probs[row, step, i] == 0 for i in before)
      free = [i for i in range(M) if mask_of(row, i) and i not in before]
      assert all(probs[row, step, i] > 0 for i in free)
  # A set is not empty; and when nothing is left, it has ended.
  assert (probs[:, 0, M] == 0).all() and (probs[:, 1:, M] > 0).all()
  assert probs[1, 3, M] == 1


def mask_of(row, i):
  return bool(some_units()[2][row, i])


def test_where_nothing_may_be_picked_the_end_is():
  state, x, _ = some_units()
  nothing = jnp.zeros([B, M], bool)
  run = pointer_of(state, x, nothing)
  assert (run(lambda p: p.pick(K)) == M).all()


def test_all_steps_at_once_are_the_steps_one_by_one():
  state, x, mask = some_units()
  run = pointer_of(state, x, mask)
  picks = jnp.array([[3, 0, 5, 7, 7], [2, 1, 7, 7, 7]])
  at_once = run(lambda p: starcraft.log_likelihood(p.log_probs(picks), picks))
  now = []
  for step in range(K):  # What is not picked yet cannot be known.
    known = jnp.full([B, step + 1], M).at[:, :step].set(picks[:, :step])
    now.append(run(lambda p, known=known: p.log_probs(known))[:, -1])
  one_by_one = np.zeros(B)
  for row in range(B):
    for step, pick in enumerate(picks[row].tolist()):
      one_by_one[row] += now[step][row, pick]
      if pick == M:
        break
  np.testing.assert_allclose(at_once, one_by_one, rtol=1e-5)


def test_after_the_end_nothing_counts():
  log_probs = jnp.log(jnp.full([1, 4, 3], 0.5))
  ended = starcraft.log_likelihood(log_probs, jnp.array([[1, 2, 2, 2]]))
  np.testing.assert_allclose(ended, 2 * np.log(0.5), rtol=1e-6)
  never = starcraft.log_likelihood(log_probs, jnp.array([[1, 0, 1, 0]]))
  np.testing.assert_allclose(never, 4 * np.log(0.5), rtol=1e-6)


def test_the_order_of_what_was_picked_matters_but_for_the_last():
  run = pointer_of(*some_units())
  log_probs = run(
      lambda p: jnp.stack(
          [
              p.log_probs(jnp.array([order] * B))[0, 3]
              for order in ([3, 0, 5, 7], [0, 3, 5, 7], [5, 0, 3, 7])
          ]
      )
  )
  np.testing.assert_allclose(log_probs[0], log_probs[1], atol=1e-5)
  assert np.abs(log_probs[0] - log_probs[2])[jnp.array([1, 2, 4])].max() > 1e-3


def test_the_likeliest_set_is_picked_step_by_step():
  run = pointer_of(*some_units())
  picks = run(lambda p: p.pick(K))
  assert picks.shape == (B, K) and picks.dtype == jnp.int32
  log_probs = run(lambda p: p.log_probs(picks))
  for row in range(B):
    has_ended = False
    for step in range(K):
      expected = M if has_ended else int(log_probs[row, step].argmax())
      assert picks[row, step] == expected
      has_ended = expected == M
  assert len(set(picks[0].tolist()) - {M}) == (picks[0] != M).sum()


def test_sets_are_drawn_as_often_as_they_are_likely():
  run = pointer_of(*some_units())
  keys = jax.random.split(jax.random.key(2), 4000)
  drawn = run(lambda p: jax.vmap(lambda key: p.pick(3, key)[1])(keys))
  sets, counts = np.unique(np.asarray(drawn), axis=0, return_counts=True)
  likelihood = lambda p, picks: starcraft.log_likelihood(
      p.log_probs(jnp.stack([picks] * B)), jnp.stack([picks] * B)
  )
  probs = np.exp(
      run(lambda p: jax.vmap(functools.partial(likelihood, p))(sets))[:, 1]
  )
  assert 0.99 < probs.sum() < 1.001
  margin = 5 * np.sqrt(probs * (1 - probs) / 4000) + 1e-3
  assert (np.abs(counts / 4000 - probs) < margin).all()
  assert len(sets) > 3


def test_pointers_follow_their_elements():
  state, x, mask = some_units()
  run = pointer_of(state, x, mask)
  order = jnp.array([4, 2, 6, 0, 5, 1, 3])
  place = jnp.argsort(jnp.append(order, M))
  picks = run(lambda p: p.pick(K))
  moved = run(lambda p: p.pick(K), state, x[:, order], mask[:, order])
  np.testing.assert_array_equal(moved, place[picks])


def test_what_is_empty_does_not_matter_to_entities():
  _, y, mask = some_units()
  apply, _ = initialised(lambda y: starcraft.entities(y, mask, 17), y)
  each, whole = apply(y)
  assert each.shape == (B, M, 17) and whole.shape == (B, 17)
  other = jnp.where(mask[:, :, None], y, 99.0)
  chex.assert_trees_all_equal(apply(other), (each, whole))
  assert (each[~mask] == 0).all() and (each[mask] != 0).any(-1).all()
  assert (whole >= 0).all()


def test_elements_of_a_set_are_true():
  found = starcraft.picked(jnp.array([[2, 0, 4, 4]]), 4)
  assert found.tolist() == [[True, False, True, False]]
