"""The causal rule, by every implementation that a CPU can run."""

import functools
import subprocess
import sys
from unittest import mock

import jax
from jax._src.cudnn import fused_attention_stablehlo as library
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import attend_by
from perceiver import compiled_for
from perceiver.kernels import blocked
from perceiver.kernels import causal
from perceiver.kernels import fused
from perceiver.kernels import softmax
from perceiver.kernels import splash
from perceiver.target import Target
from tests.conftest import ENVIRONMENT
from tests.perceiver.kernels.softmax_test import computed_by
from tests.perceiver.kernels.softmax_test import near
from tests.perceiver.kernels.softmax_test import normal
from tests.perceiver.kernels.softmax_test import plainly
from tests.perceiver.kernels.softmax_test import shapes
from tests.perceiver.kernels.softmax_test import some_qkv
from tests.perceiver.kernels.softmax_test import with_gradients

# Queries, keys, offset: the newest of many, all, fewer keys than queries, and
# queries that see nothing, or keys that nobody sees.
SIZES = [(3, 11, 8), (7, 7, 0), (7, 5, 0), (7, 11, -2), (5, 11, 3), (7, 3, -4)]


def rule(n, m, offset):
  return np.arange(m)[None, None] <= np.arange(n)[None, :, None] + offset


def masks(n, m):
  of_keys = np.ones([2, 1, m], bool)
  of_keys[0, 0, : m // 2] = False  # Padding before a sequence.
  of_pairs = normal(2, n, m) < 0.3
  return {"none": None, "of keys": of_keys, "of pairs": of_pairs}


@pytest.mark.parametrize("which", ["none", "of keys", "of pairs"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_rule_has_the_values_and_gradients_of_a_mask(sizes, which):
  n, m, offset = sizes
  qkv = some_qkv(2, n, m, 3, 5, 7)
  mask = masks(n, m)[which]
  whole = rule(n, m, offset) if mask is None else rule(n, m, offset) & mask
  whole = np.broadcast_to(whole, [2, n, m])
  expected = plainly(*qkv, whole)
  given = None if mask is None else jnp.asarray(mask)
  for how in ("blocked", "plain"):
    with computed_by(how, (2, 3)):
      attend = lambda q, k, v: softmax.attend(q, k, v, given, causal=offset)
      found = with_gradients(attend, *qkv)
    for x, wanted in zip(found, expected, strict=True):
      near(x, wanted)
    sees_nothing = ~whole.any(-1)
    for x in found[:2]:  # What is read, and the gradient of q.
      np.testing.assert_array_equal(np.asarray(x)[sees_nothing], 0.0)


def test_constants_are_added_beside_the_rule():
  q, k, v = some_qkv(2, 7, 11, 3, 5, 7)
  constants = normal(2, 11, 3)
  attend = lambda q, k, v, c: softmax.attend(q, k, v, constants=c, causal=4)
  whole = lambda q, k, v, c: softmax.plain(
      q, k, v, jnp.asarray(rule(7, 11, 4)), c
  )

  def gradient(attend):
    loss = lambda *args: jnp.sin(attend(*args)).sum()
    return jax.jit(jax.grad(loss, (0, 1, 2, 3)))(q, k, v, constants)

  gradients = gradient(attend), gradient(whole)
  for x, wanted in zip(*gradients, strict=True):
    near(x, wanted)


def test_bfloat16_stays_bfloat16_and_near_float32():
  half = [jnp.asarray(x, jnp.bfloat16) for x in some_qkv(2, 7, 11, 3, 8, 8)]
  with computed_by("blocked", (2, 3)):
    ours = with_gradients(lambda *a: softmax.attend(*a, causal=4), *half)
  exact = plainly(*(x.astype(jnp.float32) for x in half), rule(7, 11, 4))
  for x, expected in zip(ours, exact, strict=True):
    assert x.dtype == jnp.bfloat16
    error = np.std(np.asarray(x, np.float32) - expected)
    assert error < 0.01 * np.std(expected)


def test_blocks_that_no_query_may_see_are_not_computed():
  # What is not a number comes out wherever it is computed with, even with a
  # weight of 0: it shows which blocks of keys each block of queries reads.
  n, m, offset, (queries, keys) = 8, 12, 4, (2, 3)
  q, k, v = map(jnp.asarray, some_qkv(1, n, m, 1, 5, 7))
  attend = functools.partial(
      blocked.attend, queries=queries, keys=keys, causal=offset
  )
  read = np.zeros([n // queries, m // keys], bool)
  for j in range(m // keys):
    bad = v.at[:, j * keys : (j + 1) * keys].set(jnp.nan)
    y = np.asarray(attend(q, k, bad)).reshape(n // queries, -1)
    read[:, j] = np.isnan(y).any(-1)
  seen = rule(n, m, offset)[0]
  expected = seen.reshape(n // queries, queries, m // keys, keys).any((1, 3))
  np.testing.assert_array_equal(read, expected)
  assert expected.sum() == 13 and expected.size == 16


def test_gradients_of_blocks_that_no_query_may_see_are_not_computed():
  n, m, offset, keys = 8, 12, 4, 3
  q, k, v = map(jnp.asarray, some_qkv(1, n, m, 1, 5, 7))
  attend = functools.partial(
      blocked.attend, queries=2, keys=keys, causal=offset
  )
  y, derivative = jax.vjp(attend, q, k, v)
  for i in range(n // 2):
    dy = y.at[:, 2 * i : 2 * i + 2].set(jnp.nan)
    dv = np.asarray(derivative(dy)[2]).reshape(m // keys, -1)
    sees = rule(n, m, offset)[0, 2 * i : 2 * i + 2].any(0)
    np.testing.assert_array_equal(
        np.isnan(dv).any(-1), sees.reshape(-1, keys).any(-1)
    )


def test_the_rule_makes_no_array_of_queries_times_keys():
  def largest(function):
    args = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in qkv]
    compiled = jax.jit(jax.grad(function)).lower(*args).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes

  qkv = some_qkv(1, 1024, 16384, 1, 8, 8)
  loss = lambda *qkv: softmax.attend(*qkv, causal=15360).sum()
  with attend_by("blocked"):
    assert largest(loss) < 1024 * 16384  # Bytes of a mask.


@pytest.mark.parametrize("which", ["none", "of keys", "of pairs"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_which_queries_see_a_key_is_known_without_the_pairs(sizes, which):
  n, m, offset = sizes
  mask = masks(n, m)[which]
  whole = rule(n, m, offset) if mask is None else rule(n, m, offset) & mask
  given = None if mask is None else jnp.asarray(mask)
  found = causal.sees_any(given, n, offset)
  found = np.ones([1, n], bool) if found is None else np.asarray(found)
  np.testing.assert_array_equal(
      np.broadcast_to(found, whole.shape[:2]), whole.any(-1)
  )


@pytest.mark.parametrize(
    ("offset", "mask", "kind"),
    [
        (0, None, library.MaskType.PADDING_CAUSAL),
        (0, "of keys", library.MaskType.CAUSAL),
        (4, None, library.MaskType.NO_MASK),
    ],
)
def test_cudnn_has_a_rule_of_its_own_without_an_offset(offset, mask, kind):
  q, k, v = map(jnp.asarray, some_qkv(2, 7, 11, 3, 8, 8))
  mask = None if mask is None else jnp.asarray(masks(7, 11)[mask])
  given = []

  def on_a_cpu(q, k, v, *, scale, mask_type, mask=None, **padding):
    given.append(mask_type)
    visible = jnp.ones([1, q.shape[1], k.shape[1]], bool)
    if mask_type in (
        library.MaskType.CAUSAL,
        library.MaskType.PADDING_CAUSAL,
    ):
      visible = jnp.asarray(rule(q.shape[1], k.shape[1], 0))
    if padding:
      of_keys = padding["kv_seqlen"][:, None, None]
      visible = visible & (jnp.arange(k.shape[1]) < of_keys)
    if mask is not None:
      visible = visible & mask[:, 0]
    return softmax.plain(q, k, v, visible, scale=scale)

  with mock.patch.object(library, "dot_product_attention", on_a_cpu):
    ours = fused.cudnn(q, k, v, mask, causal=offset)
  whole = rule(7, 11, offset) if mask is None else rule(7, 11, offset) & mask
  near(ours, softmax.plain(q, k, v, jnp.asarray(whole)))
  assert given == [kind]


def test_an_offset_that_is_not_known_is_none_for_splash():
  with compiled_for(Target("tpu")):
    assert not splash.why_not(*shapes(), 256)
    assert "known" in splash.why_not(*shapes(), jnp.asarray(256))


IN_PARTS = """
import jax
import jax.numpy as jnp
import numpy as np
from experiments.engine import sharding
from perceiver import laid_out_by
from perceiver.kernels import softmax

rng = np.random.default_rng(0)
for n, m in ((20, 44), (20, 20), (20, 42)):
  q, k, v, weights = (
      jnp.asarray(rng.normal(size=[2, length, 3, f]), jnp.float32)
      for length, f in ((n, 7), (m, 7), (m, 13), (n, 13))
  )
  keys = np.ones([2, 1, m], bool)
  keys[0, 0, :30] = False

  def run(attend, mask):
    loss = lambda *qkv: (attend(*qkv, mask, causal=m - n) * weights).sum()
    value = jax.jit(lambda *qkv: attend(*qkv, mask, causal=m - n))(q, k, v)
    return value, *jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

  for mask in (None, jnp.asarray(keys)):
    expected = run(softmax.plain, mask)
    for shape in ((1, 4), (2, 2)):
      mesh = sharding.make_mesh(4, shape[1])
      with laid_out_by(sharding.Layout(mesh)):
        found = run(softmax.attend, mask)
      for ours, plain in zip(found, expected):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
"""


def test_parts_of_queries_and_keys_keep_to_the_rule():
  flag = "--xla_force_host_platform_device_count=4"
  subprocess.run(
      [sys.executable, "-c", IN_PARTS],
      env={**ENVIRONMENT, "XLA_FLAGS": flag},
      check=True,
      timeout=240,
  )
