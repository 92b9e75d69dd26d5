import functools
from unittest import mock

import jax
from jax.experimental.pallas.ops.tpu import splash_attention
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver.kernels import softmax
from perceiver.kernels import splash
from perceiver.kernels.splash import blocks_of

# Queries and keys that are multiples of nothing, but of few blocks.
BATCH, QUERIES, KEYS, HEADS = 2, 100, 150, 2
# Query and value features of published heads: MLM's, Kinetics', ImageNet's and
# flow's, whose inputs are their own values.
WIDTHS = [(32, 160), (64, 64), (128, 128), (261, None), (322, None)]
WIDTHS += [pytest.param((704, None), marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def interpreted():
  """The kernels run on a CPU."""
  make = functools.partial(splash_attention.make_splash_mha, interpret=True)
  splash._kernel.cache_clear()
  with mock.patch.object(splash_attention, "make_splash_mha", make):
    yield
  splash._kernel.cache_clear()


def normal(*shape):
  """Numbers that depend on the shape alone."""
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def with_gradients(attend, q, k, v, constants, mask):
  """What is read, and what a loss of it sends to q, k, v and the constants."""

  @jax.jit
  def both(*args):
    read = lambda q, k, v, constants: attend(
        q, k, v, mask, constants, scale=1.1 * q.shape[-1] ** -0.5
    )
    y, derivative = jax.vjp(read, *args)
    dy = jnp.asarray(normal(*y.shape), y.dtype)
    return [y, *(d for d in derivative(dy) if d is not None)]

  return both(q, k, v, constants)


def agrees(dtype, widths, mask=None, constants=None, heads=HEADS, blocks=None):
  """Whether the kernel and the plain form in float32 agree."""
  f, v_width = widths
  q, k = normal(BATCH, QUERIES, heads, f), normal(BATCH, KEYS, heads, f)
  v = None if v_width is None else normal(BATCH, KEYS, heads, v_width)
  rounded = (
      lambda x, to: None if x is None else jnp.asarray(x, dtype).astype(to)
  )
  args = q, k, v, constants
  mask = None if mask is None else jnp.asarray(mask)
  expected = with_gradients(
      softmax.plain, *(rounded(x, jnp.float32) for x in args), mask
  )
  kernel = functools.partial(splash.attend, blocks=blocks)
  found = with_gradients(kernel, *(rounded(x, dtype) for x in args), mask)
  assert len(found) == len(expected)
  tolerance = 1e-5 if dtype == jnp.float32 else 0.02
  for x, wanted in zip(found, expected, strict=True):
    assert x.dtype == dtype
    np.testing.assert_allclose(
        x.astype(jnp.float32), wanted, atol=tolerance * np.abs(wanted).max()
    )
  return found


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_the_plain_forms(dtype, widths):
  agrees(dtype, widths, heads=1 if widths[1] is None else HEADS)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_constants_are_added_to_the_scores_of_a_key(dtype):
  agrees(dtype, (32, 40), constants=normal(BATCH, KEYS, HEADS))


def hidden_keys():
  mask = normal(BATCH, 1, KEYS) < 0.5
  mask[1] = False  # All of an example's.
  return mask


def hidden_queries():
  mask = np.ones([1, QUERIES, 1], bool)
  mask[:, 70:] = False
  return mask


@pytest.mark.parametrize("make", [hidden_keys, hidden_queries])
def test_what_is_hidden_is_not_read_and_reads_nothing(make):
  mask = make()
  y, *gradients = agrees(jnp.float32, (32, 40), mask)
  sees_nothing = ~np.broadcast_to(mask.any(2), (BATCH, QUERIES))
  assert sees_nothing.any()
  assert not np.asarray(y)[sees_nothing].any()
  assert not np.asarray(gradients[0])[sees_nothing].any()


@pytest.mark.parametrize("offset", [KEYS - QUERIES, 0, -20])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_causal_rule_is_that_of_a_mask(hidden, offset):
  of_query, of_key = np.arange(QUERIES)[:, None], np.arange(KEYS)
  rule = (of_key <= of_query + offset)[None]
  mask = hidden_keys() if hidden else None
  whole = rule & mask if hidden else rule
  args = (
      normal(BATCH, QUERIES, HEADS, 32),
      normal(BATCH, KEYS, HEADS, 32),
      normal(BATCH, KEYS, HEADS, 40),
      None,
  )
  expected = with_gradients(softmax.plain, *args, jnp.asarray(whole))
  kernel = functools.partial(splash.attend, blocks=(128, 128), causal=offset)
  found = with_gradients(
      kernel, *args, mask if mask is None else jnp.asarray(mask)
  )
  for x, wanted in zip(found, expected, strict=True):
    np.testing.assert_allclose(x, wanted, atol=1e-5 * np.abs(wanted).max())


def test_several_blocks_of_queries_and_keys():
  agrees(jnp.float32, (32, 40), hidden_keys(), blocks=(128, 128))


def test_one_mask_for_all_examples():
  agrees(jnp.float32, (32, 40), hidden_keys()[:1])


@pytest.mark.parametrize(
    ("length", "block"),
    [
        (1, 128),
        (128, 128),
        (130, 256),
        (409, 512),
        (512, 512),
        (784, 896),
        (2048, 1024),
        (182528, 1024),
    ],
)
def test_blocks_are_large_and_add_few_rows(length, block):
  assert blocks_of(128, length, 128) == (128, block)


def test_blocks_of_wide_heads_are_smaller():
  widths = 2 * 128, 2 * 322, 2 * 704, 4 * 704  # In bytes.
  assert [blocks_of(2048, 2048, width) for width in widths] == [
      (512, 1024),
      (512, 512),
      (256, 512),
      (256, 256),
  ]
