from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import compiled_for
from perceiver import compute_in
from perceiver import learned
from perceiver.attention import Linear
from perceiver.learned import LearnedArray
from perceiver.target import Target


class LearnedArrayTest(parameterized.TestCase):

  def test_is_the_same_for_every_example(self):
    net = hk.transform(lambda: LearnedArray(5, 7, name="latents")(3))
    params = net.init(jax.random.key(0))
    array = net.apply(params, None)
    self.assertEqual(params["latents"]["array"].shape, (5, 7))
    self.assertEqual(array.shape, (3, 5, 7))
    for example in array:
      np.testing.assert_array_equal(example, params["latents"]["array"])

  def test_starts_as_a_normal_cut_at_two_deviations(self):
    net = hk.transform(lambda: LearnedArray(401, 503)(1))
    (params,) = net.init(jax.random.key(0)).values()
    array = np.asarray(params["array"])
    self.assertAlmostEqual(array.std(), 0.02 * 0.8796, delta=1e-4)
    self.assertAlmostEqual(array.mean(), 0.0, delta=2e-4)
    self.assertLessEqual(np.abs(array).max(), 0.04)
    self.assertGreater(np.abs(array).max(), 0.0399)


# By itself bfloat16 counts to 256: 256 + 1 is 256.
EXAMPLES = 1031


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_gradients_of_a_map_are_summed_in_float32(platform):
  def forward(x):
    with compute_in("bfloat16"), compiled_for(Target(platform)):
      return Linear(7, name="map")(x)

  net = hk.transform(forward)
  x = jnp.ones([EXAMPLES, 3, 5], jnp.bfloat16)
  params = net.init(jax.random.key(0), x)
  loss = lambda params: net.apply(params, None, x).astype(jnp.float32).sum()
  for gradient in jax.tree.leaves(jax.grad(loss)(params)):
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, 3 * EXAMPLES)


def test_gradients_of_what_all_examples_have_are_summed_in_float32():
  x = jnp.ones([1, 3, 5], jnp.bfloat16)
  y, derivative = jax.vjp(lambda x: learned.for_examples(x, EXAMPLES), x)
  assert y.shape == (EXAMPLES, 3, 5)
  (gradient,) = derivative(jnp.ones_like(y))
  assert gradient.dtype == jnp.bfloat16
  np.testing.assert_array_equal(gradient.astype(jnp.float32), 1032)  # Rounded.


def test_in_float32_a_product_is_as_jax_has_it():
  rng = np.random.default_rng(0)
  x, w = (
      jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 5), (5, 7))
  )
  both = lambda f: jax.vjp(f, x, w)[1](jnp.ones([3, 7]))
  for ours, own in zip(both(learned.product), both(jnp.matmul), strict=True):
    np.testing.assert_array_equal(ours, own)


if __name__ == "__main__":
  absltest.main()
