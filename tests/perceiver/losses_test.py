from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from perceiver import losses


class SoftLabelsTest(parameterized.TestCase):

  def test_are_one_hot(self):
    targets = losses.soft_labels(jnp.asarray([2, 0]), 3)
    np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])

  def test_are_smoothed_over_all_classes(self):
    targets = losses.soft_labels(jnp.asarray([1]), 4, smoothing=0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)

  def test_are_mixed_before_they_are_smoothed(self):
    labels, others = jnp.asarray([0, 1]), jnp.asarray([1, 1])
    ratio = jnp.asarray([0.75, 0.25])
    mixed = losses.soft_labels(labels, 2, 0.0, others, ratio)
    np.testing.assert_allclose(mixed, [[0.75, 0.25], [0, 1]], rtol=1e-6)
    smoothed = losses.soft_labels(labels, 2, 0.2, others, ratio)
    np.testing.assert_allclose(smoothed, [[0.7, 0.3], [0.1, 0.9]], rtol=1e-6)


class MixTest(absltest.TestCase):

  def test_labels_without_their_ratio_are_refused(self):
    labels = jnp.asarray([0, 2])
    with self.assertRaisesRegex(ValueError, "go together"):
      losses.soft_labels(labels, 3, mix_labels=labels)


class CrossEntropyTest(parameterized.TestCase):

  def test_of_equal_logits_is_the_logarithm_of_the_classes(self):
    loss = losses.cross_entropy(
        jnp.full([2, 3], 7.0), jnp.asarray([[0, 1, 0], [0.5, 0.25, 0.25]])
    )
    np.testing.assert_allclose(loss, [np.log(3)] * 2, rtol=1e-6)

  def test_of_soft_targets(self):
    logits = jnp.log(jnp.asarray([[1.0, 3.0], [1.0, 1.0]]))
    loss = losses.cross_entropy(logits, jnp.asarray([[0.5, 0.5], [0.0, 1.0]]))
    first = -(np.log(1 / 4) + np.log(3 / 4)) / 2
    np.testing.assert_allclose(loss, [first, np.log(2)], rtol=1e-6)

  def test_is_taken_in_float32(self):
    logits = jnp.asarray([[0.0, 1.0]], jnp.bfloat16)
    loss = losses.cross_entropy(logits, jnp.asarray([[1.0, 0.0]]))
    self.assertEqual(loss.dtype, jnp.float32)
    np.testing.assert_allclose(loss, [np.log(1 + np.e)], rtol=1e-6)


class MultiHotTest(parameterized.TestCase):

  def test_several_labels_are_a_question_each(self):
    labels = jnp.array([[2, 0, -1], [-1, -1, -1]])
    targets = losses.multi_hot(labels, 5)
    self.assertEqual(targets.tolist(), [[1, 0, 1, 0, 0], [0] * 5])
    logits = jnp.array([[3.0, -1.0, 0.5, 0.0, 2.0]] * 2)
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    expected = -np.log(np.where(targets == 1, p, 1 - p)).sum(-1)
    found = losses.binary_cross_entropy(logits, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
