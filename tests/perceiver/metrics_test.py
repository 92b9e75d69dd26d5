"""Metrics: one per example, and one of a whole split."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from perceiver import metrics


class PsnrTest(parameterized.TestCase):

  def test_is_that_of_the_mean_error(self):
    found = metrics.psnr(np.float32([0.02, 0.0]))
    self.assertAlmostEqual(found, 20.0, places=5)

  def test_is_infinite_where_nothing_is_wrong(self):
    self.assertEqual(metrics.psnr(np.zeros(3)), float("inf"))


class TopKTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, [100, 0, 0]), (2, [100, 100, 0]), (3, [100, 100, 100])
  )
  def test_is_in_percent_per_example(self, k, expected):
    logits = jnp.asarray([[1.0, 3.0, 2.0]] * 3)
    percent = metrics.top_k(logits, jnp.asarray([1, 2, 0]), k)
    np.testing.assert_array_equal(percent, expected)

  def test_of_several_labels_one_is_enough_and_none_is_never_right(self):
    logits = jnp.array([[0.0, 3.0, 2.0, 1.0, -1.0]] * 3)
    labels = jnp.array([[4, 2, -1], [0, 3, 4], [-1, -1, -1]])
    self.assertEqual(metrics.top_k(logits, labels, 2).tolist(), [100, 0, 0])

  def test_more_than_there_are_classes(self):
    with self.assertRaisesRegex(ValueError, "top-5 needs 5 classes, not 3"):
      metrics.top_k(jnp.zeros([2, 3]), jnp.zeros([2], int), 5)


if __name__ == "__main__":
  absltest.main()
