"""GLUE's correlations: their values, and where they are undefined."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

from experiments import glue


def gorodkin(label, predicted, classes):
  """The correlation of one-hot vectors. Source: Gorodkin, 2004."""
  t, p = np.eye(classes)[label], np.eye(classes)[predicted]
  t, p = t - t.mean(axis=0), p - p.mean(axis=0)
  spread = np.sqrt(np.sum(t * t) * np.sum(p * p))
  return np.sum(t * p) / spread if spread else 0.0


class MatthewsTest(parameterized.TestCase):

  @parameterized.product(classes=[2, 3, 7], count=[1, 5, 53])
  def test_is_gorodkin_s_of_the_table_of_counts(self, classes, count):
    rng = np.random.default_rng(classes)
    for _ in range(20):
      label = rng.integers(0, classes, count)
      guess = rng.integers(0, classes, count)
      predicted = np.where(rng.random(count) < 0.6, label, guess)
      expected = gorodkin(label, predicted, classes)
      actual = glue.matthews(predicted, label)
      self.assertIsInstance(actual, float)
      self.assertAlmostEqual(actual, expected, places=12)

  def test_has_the_sign_of_agreement_and_survives_large_counts(self):
    label = np.tile(np.array([0, 0, 1], np.int32), 300_000)
    self.assertAlmostEqual(glue.matthews(label, label), 1.0, places=12)
    self.assertAlmostEqual(glue.matthews(1 - label, label), -1.0, places=12)

  @parameterized.parameters(0, 1, 7)
  def test_is_0_where_it_is_undefined(self, count):
    same, other = np.ones(count, int), np.arange(count)
    self.assertEqual(glue.matthews(same, other), 0.0)
    self.assertEqual(glue.matthews(other, same), 0.0)
    self.assertEqual(glue.matthews(same, same), 0.0)

  def test_lengths_that_differ_are_refused(self):
    with self.assertRaises((ValueError, TypeError)):
      glue.matthews(np.arange(3), np.arange(5))


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
      actual = glue.pearson(x, y)
      self.assertIsInstance(actual, float)
      self.assertAlmostEqual(actual, expected, places=9)

  def test_is_at_most_1_however_it_is_rounded(self):
    x = np.random.default_rng(3).normal(size=101)
    self.assertAlmostEqual(glue.pearson(x, 3 * x + 7), 1.0, places=12)
    self.assertLessEqual(glue.pearson(x, 3 * x + 7), 1.0)
    self.assertGreaterEqual(glue.pearson(x, -x), -1.0)

  @parameterized.parameters(0, 1, 7)
  def test_is_0_where_it_is_undefined(self, count):
    # Thirds and tenths have no exact mean.
    same, other = np.full(count, 0.1), np.arange(count) / 3
    self.assertEqual(glue.pearson(same, other), 0.0)
    self.assertEqual(glue.pearson(other, same), 0.0)
    self.assertEqual(glue.pearson(same, same), 0.0)

  def test_what_is_no_number_does_not_hide(self):
    x = np.array([1.0, np.nan, 2.0])
    self.assertTrue(np.isnan(glue.pearson(x, np.arange(3))))

  def test_lengths_that_differ_are_refused(self):
    with self.assertRaises((ValueError, TypeError)):
      glue.pearson(np.arange(3), np.arange(5))


if __name__ == "__main__":
  absltest.main()
