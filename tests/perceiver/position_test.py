from absl.testing import parameterized
import jax.numpy as jnp
from jaxtyping import TypeCheckError
import numpy as np
import pytest

from perceiver import position


class GridTest(parameterized.TestCase):

  @parameterized.parameters(
      ((1,), [[-1]]),
      ((2,), [[-1], [1]]),
      ((5,), [[-1], [-0.5], [0], [0.5], [1]]),
      ((2, 3), [[-1, -1], [-1, 0], [-1, 1], [1, -1], [1, 0], [1, 1]]),
      ((1, 2, 1), [[-1, -1, -1], [-1, 1, -1]]),
  )
  def test_is_row_major_and_holds_both_ends(self, dims, expected):
    np.testing.assert_allclose(position.grid(dims), expected, atol=1e-7)

  @parameterized.parameters((3,), (3, 5), (3, 5, 2), (3, 5, 2, 7))
  def test_axes_stand_in_their_order(self, *dims):
    pos = np.asarray(position.grid(dims)).reshape(*dims, len(dims))
    for axis, n in enumerate(dims):
      steps = np.diff(pos, axis=axis)
      only_here = 2 / (n - 1) * (np.arange(len(dims)) == axis)
      np.testing.assert_allclose(
          steps, np.broadcast_to(only_here, steps.shape), atol=1e-6
      )


class OfIndicesTest(parameterized.TestCase):

  def test_falls_short_of_the_end(self):
    pos = position.of_indices(jnp.arange(5), [5])
    expected = [[-1.0], [-0.6], [-0.2], [0.2], [0.6]]
    np.testing.assert_allclose(pos, expected, atol=1e-7)

  def test_any_cells_in_any_order(self):
    pos = position.of_indices(jnp.asarray([5, 0, 5, 3]), [2, 4])
    expected = [[0, -0.5], [-1, -1], [0, -0.5], [-1, 0.5]]
    np.testing.assert_allclose(pos, expected, atol=1e-7)


class FourierFeaturesTest(parameterized.TestCase):

  def test_positions_then_sines_then_cosines_axis_by_axis(self):
    pos = jnp.asarray([[0.5, -1.0]])
    # Frequencies 1, 2 and 3 for y, 1, 1.5 and 2 for x.
    features = position.fourier_features(pos, 3, [6, 4])
    expected = [0.5, -1]
    expected += [1, 0, -1] + [0, 1, 0]  # sin(π f / 2), sin(-π f)
    expected += [0, -1, 0] + [-1, 0, 1]  # cos(π f / 2), cos(-π f)
    np.testing.assert_allclose(features, [expected], atol=1e-6)

  def test_one_band_is_the_lowest(self):
    features = position.fourier_features(jnp.asarray([[0.5]]), 1, [100])
    np.testing.assert_allclose(features, [[0.5, 1.0, 0.0]], atol=1e-7)

  def test_a_resolution_is_needed_for_every_axis(self):
    with self.assertRaisesRegex(ValueError, r"\(8, 8, 8\) has 3 axes .* 2\."):
      position.fourier_features(jnp.zeros([5, 2]), 3, [8, 8, 8])

  def test_a_wrong_shape_is_refused(self):
    with self.assertRaisesRegex(TypeCheckError, "parameter 'pos'"):
      position.fourier_features(jnp.zeros([2, 5, 2]), 3, [8, 8])


def turned(x, place, fraction, longest):
  """One head's features at one place, pair by pair."""
  y = np.array(x, np.float64)
  pairs = int(len(x) * fraction) // 2
  for i in range(pairs):
    share = i / (pairs - 1) if pairs > 1 else 0.0
    angle = place / longest**share
    a, b = y[2 * i], y[2 * i + 1]
    y[2 * i] = a * np.cos(angle) - b * np.sin(angle)
    y[2 * i + 1] = a * np.sin(angle) + b * np.cos(angle)
  return y


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_rotary_positions_turn_pairs_of_features(fraction):
  x = np.random.default_rng(0).normal(size=[2, 5, 3, 10]).astype(np.float32)
  pos = np.array([[0, 1, 2, 3, 40], [7, 6, 0, 1, 99]])
  y = position.rotated(jnp.asarray(x), jnp.asarray(pos), fraction, 50.0)
  for b, i, h in np.ndindex(2, 5, 3):
    expected = turned(x[b, i, h], pos[b, i], fraction, 50.0)
    np.testing.assert_allclose(y[b, i, h], expected, atol=1e-5)


def test_a_fraction_above_all_features_is_refused():
  with pytest.raises(ValueError, match="rotary positions turn = 1.5"):
    position.rotated(jnp.zeros([1, 2, 1, 4]), jnp.zeros([1, 2], int), 1.5, 9.0)


@pytest.mark.parametrize("shortest", [1.0, 0.25])
def test_sinusoids_are_sines_and_cosines_of_falling_frequencies(shortest):
  longest = 100.0 * shortest
  y = np.asarray(position.sinusoids(jnp.arange(30), 7, longest, shortest))
  assert y.shape == (30, 7)
  frequency = np.array([1, 0.1, 0.01]) / shortest
  angle = np.arange(30)[:, None] * frequency
  np.testing.assert_allclose(y[:, :3], np.sin(angle), atol=1e-5)
  np.testing.assert_allclose(y[:, 3:6], np.cos(angle), atol=1e-5)
  assert not y[:, 6].any()
