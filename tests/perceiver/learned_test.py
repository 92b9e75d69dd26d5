from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import numpy as np

from perceiver.learned import LearnedArray


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


if __name__ == "__main__":
  absltest.main()
