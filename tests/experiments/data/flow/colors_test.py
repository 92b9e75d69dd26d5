"""The colours of flow."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.data.flow import colors


class ColorsTest(parameterized.TestCase):

  def test_direction_is_hue_and_length_is_saturation(self):
    moves = np.array([[2, 0], [-2, 0], [1, 0], [0, 2], [0, -2], [0, 0]])
    expected = [
        [255, 0, 0],
        [0, 209, 255],
        [255, 128, 128],
        [255, 230, 0],
        [88, 0, 255],
        [255, 255, 255],
    ]
    picture = colors.colors(moves[None])
    np.testing.assert_allclose(picture[0], expected, atol=1)

  def test_the_longest_can_be_given_and_exceeded(self):
    moves = np.array([[[1.0, 0.0], [3.0, 0.0], [7.0, 0.0]]])
    picture = colors.colors(moves, max_length=3.0)
    self.assertEqual(
        picture[0].tolist(), [[255, 170, 170], [255, 0, 0], [191, 0, 0]]
    )

  def test_what_is_unknown_is_black_and_changes_nothing_else(self):
    moves = np.full([5, 3, 2], 2.0, np.float32)
    expected = colors.colors(moves)
    moves[0, 0, 0], moves[1, 1, 1], moves[2, 2, 0] = np.nan, -np.inf, 1.7e9
    picture = colors.colors(moves)
    for i in range(3):
      self.assertEqual(picture[i, i].tolist(), [0, 0, 0])
      expected[i, i] = 0
    np.testing.assert_array_equal(picture, expected)

  def test_no_motion_at_all_is_white(self):
    picture = colors.colors(np.zeros([5, 3, 2], np.float32))
    self.assertEqual(picture.dtype, np.uint8)
    self.assertEqual(picture.shape, (5, 3, 3))
    self.assertTrue((picture == 255).all())


if __name__ == "__main__":
  absltest.main()
