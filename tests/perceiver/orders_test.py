"""Attention is the same function in whatever order its products are taken."""

import itertools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import attend_by
from perceiver import Attention
from perceiver import CrossAttention
from perceiver import orders
from perceiver import products_in
from perceiver import record_attention
from perceiver.flops import count_flops
from perceiver.orders import Order
from perceiver.orders import Sizes

ORDERS = [
    Order(scores, result)
    for scores, result in itertools.product(
        ("written", "on_queries", "on_keys"),
        ("written", "on_result", "on_values"),
    )
]
MASKS = {
    "none": None,
    "of_keys": (3, 1, 13),
    "of_queries": (3, 7, 1),
    "of_both": (1, 7, 13),
}


def attention(heads):
  return hk.without_apply_rng(
      hk.transform(
          lambda query, x, mask: Attention(
              heads, qk_channels=6, v_channels=10, output_channels=17
          )(query, x, mask)
      )
  )


def arrays(mask, batch=3):
  rng = np.random.default_rng(0)
  query = jnp.asarray(rng.normal(size=[batch, 7, 5]), jnp.float32)
  x = jnp.asarray(rng.normal(size=[3, 13, 11]), jnp.float32)
  if MASKS[mask] is None:
    return query, x, None
  seen = np.asarray(rng.random(MASKS[mask]) < 0.5)
  seen.reshape(-1)[0] = False
  if mask == "of_both":
    seen[0, 2] = False  # A query that may see no key.
  return query, x, jnp.asarray(seen)


def with_biases(params):
  """The parameters with other biases than 0."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), params
  )


@pytest.mark.parametrize("implementation", ("plain", "blocked"))
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("heads", (1, 2))
def test_all_orders_give_the_same_values_and_gradients(
    heads, mask, implementation, monkeypatch
):
  net = attention(heads)
  query, x, seen = arrays(mask)
  params = with_biases(net.init(jax.random.key(0), query, x, seen))

  def run(order):
    monkeypatch.setattr(orders, "choose", lambda sizes: order)

    def loss(params, query, x):
      y = net.apply(params, query, x, seen)
      return (y * jnp.cos(y)).sum(), y

    with attend_by(implementation):
      return jax.grad(loss, (0, 1, 2), has_aux=True)(params, query, x)

  expected = jax.tree.leaves(run(Order()))
  largest = max(float(jnp.abs(x).max()) for x in expected)
  for order in ORDERS[1:]:
    for ours, theirs in zip(jax.tree.leaves(run(order)), expected, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-6 * largest)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_parameters_start_the_same_in_every_order(order, monkeypatch):
  net, (query, x, _) = attention(2), arrays("none")
  expected = net.init(jax.random.key(0), query, x, None)
  monkeypatch.setattr(orders, "choose", lambda sizes: order)
  found = net.init(jax.random.key(0), query, x, None)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_one_query_array_for_all_examples_reads_as_a_copy_for_each(
    order, monkeypatch
):
  monkeypatch.setattr(orders, "choose", lambda sizes: order)
  net, (query, x, _) = attention(2), arrays("none", batch=1)
  params = with_biases(net.init(jax.random.key(0), query, x, None))
  copies = jnp.broadcast_to(query, (3, *query.shape[1:]))
  np.testing.assert_allclose(
      net.apply(params, query, x, None),
      net.apply(params, copies, x, None),
      rtol=1e-5,
      atol=1e-5,
  )


@pytest.mark.parametrize("scores", (False, True))
def test_recorded_weights_do_not_depend_on_the_order(scores, monkeypatch):
  net, (query, x, mask) = attention(1), arrays("of_keys")
  params = with_biases(net.init(jax.random.key(0), query, x, mask))

  def recorded(order):
    monkeypatch.setattr(orders, "choose", lambda sizes: order)
    with record_attention(scores) as weights:
      net.apply(params, query, x, mask)
    return weights["attention"]

  for order in ORDERS:
    np.testing.assert_array_equal(recorded(order), recorded(Order()))


def macs(sizes):
  """Multiply-accumulates of a cross-attend's forward pass, from its trace."""
  read = lambda query, x: CrossAttention(
      sizes.heads,
      qk_channels=sizes.heads * sizes.qk_features,
      v_channels=sizes.heads * sizes.v_features,
  )(query, x)
  net = hk.without_apply_rng(hk.transform(read))
  query, x = (
      jax.ShapeDtypeStruct((1, n, c), jnp.float32)
      for n, c in (
          (sizes.queries, sizes.query_channels),
          (sizes.keys, sizes.key_channels),
      )
  )
  params = jax.eval_shape(net.init, jax.random.key(0), query, x)
  return count_flops(net.apply, params, query, x, products=None) // 2


SIZES = {
    "an encoder": Sizes(7, 113, 31, 11, 1, 11, 11, 31),
    "a decoder": Sizes(113, 7, 11, 31, 1, 31, 31, 11),
    "a layer": Sizes(17, 17, 16, 16, 4, 4, 4, 16),
}


@pytest.mark.parametrize("name", SIZES)
def test_what_is_counted_is_what_is_computed(name, monkeypatch):
  sizes = SIZES[name]
  mlp = 2 * sizes.queries * sizes.query_channels**2
  for order in ORDERS:
    monkeypatch.setattr(orders, "choose", lambda sizes, order=order: order)
    with attend_by("plain"):
      computed = macs(sizes) - mlp
    counted = orders.multiply_accumulates(order, sizes)
    # Constants of keys, and the values' bias through the output map.
    assert 0 <= computed - counted <= 2 * sizes.keys * 31 + 31 * 31


def test_the_cheapest_order_of_published_sizes():
  kinetics = Sizes(784, 52_097, 512, 704, 1, 704, 704, 512)
  flow = Sizes(182_528, 2048, 322, 512, 1, 512, 512, 322)
  layer = Sizes(512, 512, 1024, 1024, 8, 128, 128, 1024)
  mlm = Sizes(256, 2048, 1280, 768, 8, 32, 160, 1280)
  assert orders.cheapest(kinetics, "cpu") == ("on_queries", "on_result")
  assert orders.cheapest(flow, "cpu") == ("on_keys", "on_values")
  for sizes in (layer, mlm):
    assert orders.cheapest(sizes, "cpu") == ("written", "written")


def test_heads_that_a_fused_kernel_takes_are_worth_more_products_on_a_gpu():
  sizes = Sizes(512, 50_176, 1024, 261, 1, 128, 128, 1024)
  assert orders.cheapest(sizes, "gpu") == ("written", "written")


def test_the_outermost_says_in_what_order_products_are_taken():
  sizes = SIZES["an encoder"]
  with products_in("written"), products_in("cheapest"):
    assert orders.choose(sizes) == Order()
  assert orders.choose(sizes) == orders.cheapest(sizes) != Order()
  with pytest.raises(ValueError, match="is not one of|are not one of"):
    with products_in("fastest"):
      pass
