from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

import perceiver
from perceiver import attend_by
from perceiver import attention
from perceiver import compute_in
from perceiver import Decoder
from perceiver import Encoder
from perceiver import LearnedArray
from perceiver import Processor

IMAGE = np.random.default_rng(0).normal(size=[2, 4, 6, 3]).astype(np.float32)


def model_in(dtype):
  """A small model with every kind of module, plain Haiku's and state too."""

  def model(image):
    with compute_in(dtype):
      x = hk.Conv2D(8, 3, name="convolve")(image.astype(dtype))
      x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
      x = x.reshape(len(x), -1, 8)
      z = Encoder(num_latents=5, latent_channels=16)(x)
      z = Processor(layers_per_block=2, num_blocks=2, num_heads=4)(z)
      query = LearnedArray(3, 16, name="query")(len(x))
      y = Decoder(chunk=2)(query, z)
      return hk.Linear(7, name="logits")(y)

  return hk.without_apply_rng(hk.transform_with_state(model))


def some_params(net):
  """Parameters and state, none of them zero."""
  params, state = jax.eval_shape(net.init, jax.random.key(0), IMAGE)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), params
  )
  return params, jax.tree.map(lambda x: np.ones(x.shape, x.dtype), state)


class ComputeInTest(parameterized.TestCase):

  def test_parameters_and_state_stay_in_float32(self):
    net = model_in("bfloat16")
    params, state = jax.eval_shape(net.init, jax.random.key(0), IMAGE)
    _, new_state = jax.eval_shape(net.apply, params, state, IMAGE)
    self.assertEqual(
        {x.dtype.name for x in jax.tree.leaves(params)}, {"float32"}
    )
    for name in ("mean_ema", "var_ema"):
      for tree in (state, new_state):
        averages = tree[f"batch_norm/~/{name}"]
        self.assertEqual(averages["average"].dtype, np.float32)
        self.assertEqual(averages["hidden"].dtype, np.float32)
        self.assertEqual(averages["counter"].dtype, np.int32)

  def test_parameters_start_at_the_same_values(self):
    def draw(dtype):
      def model():
        with compute_in(dtype):
          return hk.Linear(5)(LearnedArray(3, 7)(1))

      return hk.transform(model).init(jax.random.key(0))

    exact, ours = draw("float32"), draw("bfloat16")
    jax.tree.map(np.testing.assert_array_equal, exact, ours)

  def test_outputs_are_near_those_in_float32(self):
    outputs = {}
    for dtype in ("float32", "bfloat16"):
      net = model_in(dtype)
      outputs[dtype], _ = jax.jit(net.apply)(*some_params(net), IMAGE)
      self.assertEqual(outputs[dtype].dtype, jnp.dtype(dtype))
    exact = np.asarray(outputs["float32"])
    error = np.asarray(outputs["bfloat16"], np.float32) - exact
    # A bfloat16 is off by 0.002 of itself, and errors add up.
    self.assertLess(error.std(), 0.03 * exact.std())
    self.assertGreater(error.std(), 0.001 * exact.std())

  def test_arrays_in_float32_are_cast_where_they_are_read(self):
    def model(x):
      with compute_in("bfloat16"):
        z = Encoder(num_latents=5, latent_channels=8)(x)
        return z, Decoder()(x, z)

    net = hk.without_apply_rng(hk.transform(model))
    x = jnp.zeros([2, 3, 7])
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    z, y = jax.eval_shape(net.apply, params, x)
    self.assertEqual((z.dtype, y.dtype), (jnp.bfloat16, jnp.bfloat16))

  def test_ends_with_its_block(self):
    def model():
      with compute_in("bfloat16"):
        inside = LearnedArray(3, 5)(1)
      return inside.dtype, LearnedArray(3, 5)(1).dtype

    net = hk.without_apply_rng(hk.transform(model))
    inside, outside = net.apply(net.init(jax.random.key(0)))
    self.assertEqual((inside, outside), (jnp.bfloat16, jnp.float32))

  @parameterized.parameters("float16", "bf16", "int8")
  def test_another_dtype_is_refused(self, dtype):
    with self.assertRaisesRegex(ValueError, f"'{dtype}' is not one of"):
      with compute_in(dtype):
        self.fail("It was accepted.")


def product_dtypes(program):
  """What each matrix product of a program gives."""
  for equation in program.eqns:
    if equation.primitive.name == "dot_general":
      yield equation.outvars[0].aval.dtype
    for inner in core.jaxprs_in_params(equation.params):
      yield from product_dtypes(inner)


class Float32Test(parameterized.TestCase):
  """What is taken in float32 of arrays in bfloat16, which has no 257."""

  def test_softmax(self):
    q = jnp.asarray([16, 1], jnp.bfloat16).reshape(1, 1, 1, 2)
    k = jnp.asarray([[16, 0], [16, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    weights = attention.attention_weights(q, k)  # Scores of 256 and 257, / √2.
    self.assertEqual(weights.dtype, jnp.float32)
    odds = np.exp(0.5**0.5)
    expected = [1 / (1 + odds), odds / (1 + odds)]
    np.testing.assert_allclose(weights[0, 0, 0], expected, rtol=1e-4)

  @parameterized.parameters(("plain", 2), ("blocked", 2 + 5))
  def test_sums_of_attention(self, implementation, number):
    q = jnp.zeros([2, 3, 5, 7], jnp.bfloat16)

    def attend(q):
      with attend_by(implementation):
        y, derivative = jax.vjp(lambda q: perceiver.attend(q, q, q), q)
        return y, derivative(y)

    program = jax.make_jaxpr(attend)(q)
    self.assertEqual([x.dtype for x in program.out_avals], [jnp.bfloat16] * 2)
    # Of the program, since a CPU sums in float32 whatever it is told.
    products = list(product_dtypes(program.jaxpr))
    if implementation == "plain":  # Its derivative is JAX's own.
      products = products[:number]
    self.assertEqual(products, [jnp.float32] * number)

  def test_linear_maps_and_their_gradients(self):
    net = hk.without_apply_rng(
        hk.transform(lambda x: attention.Linear(5, "linear")(x))
    )
    x = np.random.default_rng(0).normal(size=[2, 3, 7]).astype(np.float32)
    params = net.init(jax.random.key(0), jnp.asarray(x))
    to = np.random.default_rng(1).normal(size=[2, 3, 5]).astype(np.float32)

    def run(dtype):
      cast = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)
      y, derivative = jax.vjp(net.apply, cast(params), cast(x))
      return {"y": y, "derivative": derivative(cast(to))}

    exact, ours = run(jnp.float32), run(jnp.bfloat16)
    for a, b in zip(*map(jax.tree.leaves, (ours, exact)), strict=True):
      self.assertEqual(a.dtype, jnp.bfloat16)
      np.testing.assert_allclose(a.astype(np.float32), b, atol=0.03, rtol=0.03)
    program = jax.make_jaxpr(lambda x: run(x.dtype))(x.astype(jnp.bfloat16))
    self.assertEqual(list(product_dtypes(program.jaxpr)), [jnp.float32] * 3)

  def test_layer_norm(self):
    x = jnp.asarray([[256, 258, 256, 258]], jnp.bfloat16)  # The mean is 257.
    net = hk.transform(lambda x: attention.layer_norm(x, "norm"))
    y = net.apply(net.init(None, x), None, x)
    self.assertEqual(y.dtype, jnp.bfloat16)
    np.testing.assert_array_equal(y.astype(jnp.float32), [[-1, 1, -1, 1]])


if __name__ == "__main__":
  absltest.main()
