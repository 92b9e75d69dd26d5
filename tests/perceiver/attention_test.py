from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import TypeCheckError
import numpy as np

from perceiver import attention
from perceiver import context
from perceiver.target import Target


def normal(*shape):
  """Numbers that depend on the shape alone."""
  rng = np.random.default_rng(shape)
  return rng.normal(size=shape).astype(np.float32)


def transform(function, *args):
  """Haiku code without an rng, and parameters for it, none of which is zero."""
  net = hk.without_apply_rng(hk.transform(function))
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
  params = jax.tree.map(lambda x: jnp.asarray(0.5 * normal(*x.shape)), shapes)
  return net.apply, params


class RoundedLayerNormTest(parameterized.TestCase):

  @parameterized.parameters("cpu", "tpu")
  def test_rounded_to_bfloat16_it_is_as_exact_where_means_are_large(self, to):
    # Elements whose mean is ten deviations, and one that is all the same.
    x = jnp.asarray(normal(5, 131) + 10 * np.arange(5)[:, None], jnp.bfloat16)
    x = x.at[3].set(7.0)
    scale, offset, dy = 1 + normal(131) / 3, normal(131), normal(5, 131)

    def reference(x, scale, offset):
      deviation = jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
      return (x - x.mean(-1, keepdims=True)) / deviation * scale + offset

    def of(function, x):
      y, pull = jax.vjp(function, x, scale, offset)
      return y, *pull(jnp.asarray(dy, y.dtype))

    with context.compiled_for(Target(to)):
      found = of(attention._layer_norm, x)
    expected = of(reference, x.astype(jnp.float32))
    for one, other in zip(found, expected, strict=True):
      error = np.abs(np.asarray(one, np.float32) - other)
      self.assertLess(error.max(), 0.02 * np.abs(other).max())


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
      ({"qk_channels": 8, "v_channels": 9}, "read: the 8 qk channels"),
      ({"qk_channels": 9, "v_channels": 10}, "read: the 10 v channels"),
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
    with context.record_attention() as weights:
      y = self.apply(self.params, *args)
    return y, weights

  def test_weights_sum_to_one_where_a_key_may_be_seen(self):
    _, weights = jax.jit(self.record)(*self.args)
    self.assertEqual(list(weights), ["cross_attention/attention"])
    (weights,) = weights.values()
    self.assertEqual(weights.shape, (2, 2, 3, 7))
    sums = np.broadcast_to([1.0, 1.0, 0.0], (2, 2, 3))
    np.testing.assert_allclose(weights.sum(-1), sums, atol=1e-6)

  def test_changes_no_output_but_for_rounding(self):
    y, _ = jax.jit(self.record)(*self.args)
    expected = jax.jit(self.apply)(self.params, *self.args)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)

  def test_is_of_its_own_block_alone(self):
    with context.record_attention() as outer:
      _, inner = jax.eval_shape(self.record, *self.args)
    jax.eval_shape(self.apply, self.params, *self.args)
    self.assertEmpty(outer)
    self.assertLen(inner, 1)
    self.assertIsNone(context.recording())


class LayerNormTest(parameterized.TestCase):

  def test_derivatives_are_those_of_the_formula(self):
    def formula(x, scale, offset):
      centred = x - x.mean(-1, keepdims=True)
      deviation = jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
      return centred / deviation * scale + offset

    args = normal(2, 3, 7), normal(7), normal(1, 7)[0]
    loss = lambda function: (
        lambda *args: (function(*args) * normal(2, 3, 7)).sum()
    )
    found = jax.grad(loss(attention._layer_norm), (0, 1, 2))(*args)
    expected = jax.grad(loss(formula), (0, 1, 2))(*args)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
        found,
        expected,
    )

  def test_derivatives_have_the_dtypes_of_what_they_are_of(self):
    x = jnp.asarray(normal(2, 3, 7), jnp.bfloat16)
    scale = jnp.ones([7], jnp.bfloat16)
    loss = lambda *args: attention._layer_norm(*args).sum()
    found = jax.grad(loss, (0, 1, 2))(x, scale, scale)
    self.assertEqual([d.dtype for d in found], [jnp.bfloat16] * 3)


class InitialiserTest(parameterized.TestCase):

  @parameterized.parameters(64, 256)
  def test_linear_maps_keep_the_scale_of_their_input(self, fan_in):
    net = hk.transform(lambda x: attention.Linear(512, "linear")(x))
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
