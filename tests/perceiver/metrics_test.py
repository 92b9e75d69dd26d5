"""Metrics, against scikit-learn and SciPy where those have them."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

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
    with self.assertRaisesRegex(ValueError, "top-5 of 3 classes"):
      metrics.top_k(jnp.zeros([2, 3]), jnp.zeros([2], int), 5)


class MatthewsTest(parameterized.TestCase):

  @parameterized.product(classes=[2, 3, 7], count=[1, 5, 53])
  def test_is_scikit_learn_s(self, classes, count):
    rng = np.random.default_rng(classes)
    for _ in range(20):
      label = rng.integers(0, classes, count)
      guess = rng.integers(0, classes, count)
      predicted = np.where(rng.random(count) < 0.6, label, guess)
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About a single class.
        expected = sklearn_metrics.matthews_corrcoef(label, predicted)
      actual = metrics.matthews(predicted, label)
      self.assertIsInstance(actual, float)
      self.assertAlmostEqual(actual, expected, places=12)

  def test_has_the_sign_of_agreement_and_survives_large_counts(self):
    label = np.tile(np.array([0, 0, 1], np.int32), 300_000)
    self.assertAlmostEqual(metrics.matthews(label, label), 1.0, places=12)
    self.assertAlmostEqual(metrics.matthews(1 - label, label), -1.0, places=12)

  @parameterized.parameters(0, 1, 7)
  def test_is_0_where_it_is_undefined(self, count):
    same, other = np.ones(count, int), np.arange(count)
    self.assertEqual(metrics.matthews(same, other), 0.0)
    self.assertEqual(metrics.matthews(other, same), 0.0)
    self.assertEqual(metrics.matthews(same, same), 0.0)

  def test_lengths_that_differ_are_refused(self):
    with self.assertRaises((ValueError, TypeError)):
      metrics.matthews(np.arange(3), np.arange(5))


class PearsonTest(parameterized.TestCase):

  @parameterized.product(
      count=[2, 5, 53], dtype=[np.float32, np.float64], offset=[0, 1000]
  )
  def test_is_scipy_s(self, count, dtype, offset):
    rng = np.random.default_rng(count)
    for slope in (-3.0, -0.5, 0.0, 0.5, 3.0):
      x = rng.normal(size=count).astype(dtype)
      y = (slope * x + rng.normal(size=count) + offset).astype(dtype)
      expected = stats.pearsonr(x.astype(float), y.astype(float)).statistic
      actual = metrics.pearson(x, y)
      self.assertIsInstance(actual, float)
      self.assertAlmostEqual(actual, expected, places=9)

  def test_is_at_most_1_however_it_is_rounded(self):
    x = np.random.default_rng(3).normal(size=101)
    self.assertAlmostEqual(metrics.pearson(x, 3 * x + 7), 1.0, places=12)
    self.assertLessEqual(metrics.pearson(x, 3 * x + 7), 1.0)
    self.assertGreaterEqual(metrics.pearson(x, -x), -1.0)

  @parameterized.parameters(0, 1, 7)
  def test_is_0_where_it_is_undefined(self, count):
    # Thirds and tenths have no exact mean.
    same, other = np.full(count, 0.1), np.arange(count) / 3
    self.assertEqual(metrics.pearson(same, other), 0.0)
    self.assertEqual(metrics.pearson(other, same), 0.0)
    self.assertEqual(metrics.pearson(same, same), 0.0)

  def test_what_is_no_number_does_not_hide(self):
    x = np.array([1.0, np.nan, 2.0])
    self.assertTrue(np.isnan(metrics.pearson(x, np.arange(3))))

  def test_lengths_that_differ_are_refused(self):
    with self.assertRaises((ValueError, TypeError)):
      metrics.pearson(np.arange(3), np.arange(5))


if __name__ == "__main__":
  absltest.main()
