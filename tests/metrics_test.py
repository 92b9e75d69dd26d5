from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from perceiver import metrics


class TopKTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, [100, 0, 0]), (2, [100, 100, 0]), (3, [100, 100, 100])
  )
  def test_is_in_percent_per_example(self, k, expected):
    logits = jnp.asarray([[1.0, 3.0, 2.0]] * 3)
    percent = metrics.top_k(logits, jnp.asarray([1, 2, 0]), k)
    np.testing.assert_array_equal(percent, expected)

  def test_more_than_there_are_classes(self):
    with self.assertRaisesRegex(ValueError, "top-5 of 3 classes"):
      metrics.top_k(jnp.zeros([2, 3]), jnp.zeros([2], int), 5)


if __name__ == "__main__":
  absltest.main()
