from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import TypeCheckError
import numpy as np

from perceiver import attention

attend = jax.jit(attention.attend)


def normal(*shape):
  """Numbers that depend on the shape alone."""
  rng = np.random.default_rng(shape)
  return rng.normal(size=shape).astype(np.float32)


def transform(function, *args):
  """Haiku code without an rng, and parameters for it, none of which is zero."""
  net = hk.without_apply_rng(hk.transform(function))
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
  params = jax.tree.map(lambda x: 0.5 * normal(*x.shape), shapes)
  return net.apply, params


class AttendTest(parameterized.TestCase):

  def test_is_a_softmax_of_scaled_products(self):
    q = normal(2, 3, 5, 7)  # [B, N, H, F]
    k = normal(2, 11, 5, 7)
    v = normal(2, 11, 5, 13)
    q64, k64, v64 = (np.asarray(x, np.float64) for x in (q, k, v))
    expected = np.zeros([2, 3, 5, 13])
    for b, n, h in np.ndindex(2, 3, 5):
      weights = np.exp(k64[b, :, h] @ q64[b, n, h] / 7**0.5)
      expected[b, n, h] = weights @ v64[b, :, h] / weights.sum()
    np.testing.assert_allclose(attend(q, k, v), expected, atol=1e-6)

  @parameterized.product(heads=[1, 5], queries=[1, 3])
  def test_what_is_masked_does_not_matter(self, heads, queries):
    q = normal(2, queries, heads, 7)
    k = normal(2, 11, heads, 7)
    v = normal(2, 11, heads, 13)
    mask = np.arange(11) < np.array([4, 9])[:, None, None]
    y = attend(q, k, v, mask)
    hidden = ~mask[:, 0, :, None, None]
    other = attend(q, k + 9.0 * hidden, v - 1e9 * hidden, mask)
    np.testing.assert_array_equal(y, other)
    for b, count in enumerate((4, 9)):
      one = slice(b, b + 1)
      short = attend(q[one], k[one, :count], v[one, :count])
      np.testing.assert_allclose(y[one], short, atol=1e-6)

  def test_a_query_that_may_see_no_key_reads_zero(self):
    q, k, v = normal(1, 3, 2, 5), normal(1, 7, 2, 5), normal(1, 7, 2, 11)
    mask = np.array([True, False, True])[None, :, None]
    y = attend(q, k, v, mask)
    np.testing.assert_array_equal(y[:, 1], 0.0)
    seen = attend(q, k, v)
    np.testing.assert_allclose(y[:, ::2], seen[:, ::2], atol=1e-6)

  def test_gradients_are_finite_where_no_key_may_be_seen(self):
    q, k, v = normal(1, 3, 2, 5), normal(1, 7, 2, 5), normal(1, 7, 2, 11)
    mask = np.array([True, False, True])[None, :, None]
    loss = lambda *qkv: jnp.square(attend(*qkv, mask)).sum()
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)
    to_q, to_k, to_v = map(np.asarray, gradients)
    np.testing.assert_array_equal(to_q[:, 1], 0.0)
    for gradient in (to_q[:, ::2], to_k, to_v):
      self.assertTrue(np.isfinite(gradient).all())
      self.assertTrue((gradient != 0).all())

  def test_keys_are_a_set(self):
    q, k, v = normal(2, 3, 5, 7), normal(2, 11, 5, 7), normal(2, 11, 5, 13)
    mask = normal(2, 3, 11) < 0.5
    order = np.random.default_rng(0).permutation(11)
    y = attend(q, k, v, mask)
    permuted = attend(q, k[:, order], v[:, order], mask[:, :, order])
    np.testing.assert_allclose(y, permuted, atol=1e-6)

  def test_queries_do_not_see_each_other(self):
    q, k, v = normal(2, 3, 5, 7), normal(2, 11, 5, 7), normal(2, 11, 5, 13)
    y = attend(q, k, v)
    moved = np.array([0.0, 1.0, 0.0], np.float32)[:, None, None]
    change = np.asarray(attend(q + moved, k, v) - y)
    np.testing.assert_array_equal(change[:, ::2], 0.0)
    self.assertTrue((change[:, 1] != 0.0).all())

  def test_scores_too_large_for_an_exponential_do_not_overflow(self):
    q = k = 1e3 * np.eye(3, dtype=np.float32)[None, :, None, :]
    v = normal(1, 3, 1, 5)
    np.testing.assert_allclose(attend(q, k, v), v, atol=1e-6)


class AttentionTest(parameterized.TestCase):

  def test_a_query_that_may_see_no_key_gets_the_bias_of_the_output(self):
    query, x = normal(2, 3, 5), normal(2, 7, 11)
    mask = np.array([True, False, True])[None, :, None]
    read = lambda *args: attention.Attention(5, name="read")(*args)
    apply, params = transform(read, query, x, mask)
    y = jax.jit(apply)(params, query, x, mask)
    bias = params["read/output"]["b"]
    np.testing.assert_array_equal(y[:, 1], np.stack([bias, bias]))
    self.assertGreater(np.abs(y[:, ::2] - bias).max(), 0.1)

  @parameterized.parameters(
      ({}, 6, 6, 6),
      ({"qk_channels": 10}, 10, 10, 10),
      ({"qk_channels": 10, "v_channels": 14}, 10, 14, 14),
      ({"v_channels": 14, "output_channels": 13}, 6, 14, 13),
  )
  def test_widths(self, settings, qk_channels, v_channels, output_channels):
    read = lambda *args: attention.Attention(2, **settings, name="read")(*args)
    _, params = transform(read, normal(2, 3, 6), normal(2, 5, 11))
    self.assertEqual(
        {path: leaves["w"].shape for path, leaves in params.items()},
        {
            "read/q": (6, qk_channels),
            "read/k": (11, qk_channels),
            "read/v": (11, v_channels),
            "read/output": (v_channels, output_channels),
        },
    )

  @parameterized.parameters(
      ({"qk_channels": 8, "v_channels": 9}, "read: the 8 channels of 'q'"),
      ({"qk_channels": 9, "v_channels": 10}, "read: the 10 channels of 'v'"),
  )
  def test_channels_that_do_not_split_into_heads(self, settings, message):
    read = lambda *args: attention.Attention(3, **settings, name="read")(*args)
    with self.assertRaisesRegex(ValueError, f"{message} .* 3 heads"):
      transform(read, normal(2, 3, 5), normal(2, 7, 11))

  def test_a_wrong_shape_names_its_axis(self):
    read = lambda *args: attention.Attention(1)(*args)
    with self.assertRaisesRegex(TypeCheckError, "(?s)parameter 'x'.*B=2"):
      transform(read, normal(2, 3, 5), normal(3, 7, 11))


class CrossAttentionTest(parameterized.TestCase):

  @parameterized.parameters(True, False)
  def test_without_the_residual_only_what_was_read_is_left(self, residual):
    module = lambda *args: attention.CrossAttention(
        use_query_residual=residual
    )(*args)
    query, x = normal(2, 3, 5), normal(2, 1, 7)  # One key: it is always read.
    apply, params = transform(module, query, x)
    y, other = (
        jax.jit(apply)(params, q, x) for q in (query, query + normal(5))
    )
    self.assertEqual(np.allclose(y, other, atol=1e-6), not residual)

  def test_queries_and_keys_are_as_wide_as_the_array_that_is_read(self):
    module = lambda *args: attention.CrossAttention()(*args)
    _, params = transform(module, normal(2, 3, 5), normal(2, 7, 11))
    attended = params["cross_attention/attention/q"]["w"]
    self.assertEqual(attended.shape, (5, 11))


class SelfAttentionTest(parameterized.TestCase):

  def test_what_is_masked_does_not_matter(self):
    z = normal(2, 7, 6)
    hidden = np.arange(7) >= 4
    mask = ~hidden[None, None]
    layer = lambda *args: attention.SelfAttention(num_heads=2)(*args)
    apply, params = transform(layer, z, mask)
    y = jax.jit(apply)(params, z, mask)
    other = jax.jit(apply)(params, z + 9.0 * hidden[:, None], mask)
    np.testing.assert_array_equal(y[:, :4], other[:, :4])


class RecordWeightsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    mask = np.array([True, True, False])[None, :, None]
    self.args = normal(2, 3, 6), normal(2, 7, 11), mask
    module = lambda *args: attention.CrossAttention(2, 8)(*args)
    self.apply, self.params = transform(module, *self.args)

  def record(self, *args):
    with attention.record_weights() as weights:
      y = self.apply(self.params, *args)
    return y, weights

  def test_weights_sum_to_one_where_a_key_may_be_seen(self):
    _, weights = jax.jit(self.record)(*self.args)
    self.assertEqual(list(weights), ["cross_attention/attention"])
    (weights,) = weights.values()
    self.assertEqual(weights.shape, (2, 2, 3, 7))
    sums = np.broadcast_to([1.0, 1.0, 0.0], (2, 2, 3))
    np.testing.assert_allclose(weights.sum(-1), sums, atol=1e-6)

  def test_changes_no_output(self):
    y, _ = jax.jit(self.record)(*self.args)
    expected = jax.jit(self.apply)(self.params, *self.args)
    np.testing.assert_array_equal(y, expected)

  def test_is_of_its_own_block_alone(self):
    with attention.record_weights() as outer:
      _, inner = jax.eval_shape(self.record, *self.args)
    jax.eval_shape(self.apply, self.params, *self.args)
    self.assertEmpty(outer)
    self.assertLen(inner, 1)
    self.assertFalse(attention.is_recording())


class InitialiserTest(parameterized.TestCase):

  @parameterized.parameters(64, 256)
  def test_linear_maps_keep_the_scale_of_their_input(self, fan_in):
    net = hk.transform(lambda x: attention.linear(512, "linear")(x))
    params = jax.jit(net.init)(jax.random.key(0), normal(1, fan_in))["linear"]
    # Cut at two deviations, a normal has a deviation of 0.8796.
    weights = np.asarray(params["w"]) * fan_in**0.5
    self.assertAlmostEqual(weights.std(), 1.0, delta=0.01)
    self.assertLessEqual(np.abs(weights).max(), 2.0 / 0.8796)
    self.assertGreater(np.abs(weights).max(), 0.98 * 2.0 / 0.8796)
    np.testing.assert_array_equal(params["b"], 0.0)

  def test_every_map_of_a_layer_starts_so(self):
    net = hk.transform(lambda z: attention.SelfAttention(8)(z))
    params = jax.jit(net.init)(jax.random.key(0), normal(1, 1, 256))
    maps = {
        path: leaves["w"] for path, leaves in params.items() if "w" in leaves
    }
    self.assertLen(maps, 6)
    for path, weights in maps.items():
      with self.subTest(path):
        self.assertAlmostEqual(16 * np.std(weights), 1.0, delta=0.02)


if __name__ == "__main__":
  absltest.main()
