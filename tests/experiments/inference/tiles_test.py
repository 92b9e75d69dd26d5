"""Tiles of images, against the official ones."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.inference import tiles
from tests.conftest import GOLDEN


class TilesTest(parameterized.TestCase):

  @parameterized.parameters((37, 5), (53, 20), (11, 0))
  def test_tiles_of_any_size_cover_it_and_are_no_more_than_needed(
      self, tile, min_overlap
  ):
    for size in range(tile, 4 * tile + 1):
      starts = tiles.starts(size, tile, min_overlap)
      self.assertEqual((starts[0], starts[-1]), (0, size - tile))
      steps = np.diff(starts)
      self.assertTrue((steps > 0).all(), size)
      self.assertTrue((tile - steps >= min_overlap).all(), size)
      # One tile less could not reach the end.
      reached = tile + (len(starts) - 2) * (tile - min_overlap)
      self.assertTrue(len(starts) == 1 or reached < size, size)

  @parameterized.parameters(368, 496)
  def test_tiles_are_the_official_ones_where_those_are_right(self, tile):
    step, wrong = tile - 20, set()
    for size in range(tile, 4 * step + 1):
      official = list(range(0, size, step))
      official[-1] = size - tile
      if official[-2:-1] >= official[-1:]:
        wrong.add(size)  # The last but one sticks out, or is the last.
      else:
        self.assertEqual(tiles.starts(size, tile), official)
    expected = {tile}.union(
        *(range(k * step + 1, k * step + 21) for k in (2, 3))
    )
    self.assertEqual(wrong, expected)

  def test_grids_of_the_release_are_ours(self):
    official = {
        (436, 1024): [(y, x) for y in (0, 68) for x in (0, 476, 528)],
        (375, 1242): [(y, x) for y in (0, 7) for x in (0, 476, 746)],
        (720, 1280): [(y, x) for y in (0, 348, 352) for x in (0, 476, 784)],
        # Where the release's tiles are four times the same, or stick out.
        (368, 496): [(0, 0)],
        (540, 960): [(y, x) for y in (0, 172) for x in (0, 464)],
    }
    for size, grid in official.items():
      with self.subTest(size):
        self.assertEqual(tiles.corners(*size, 368, 496), grid)

  def test_even_tiles_are_as_many_and_as_far_apart_as_each_other(self):
    self.assertEqual(
        tiles.corners(436, 1024, 368, 496, even=True),
        [(y, x) for y in (0, 68) for x in (0, 264, 528)],
    )
    for size in range(368, 1500, 7):
      starts = tiles.starts(size, 368, even=True)
      self.assertLen(starts, len(tiles.starts(size, 368)))
      self.assertEqual((starts[0], starts[-1]), (0, size - 368))
      steps = np.diff(starts)
      self.assertLessEqual(steps.max(initial=0) - steps.min(initial=348), 1)
      self.assertLessEqual(steps.max(initial=0), 348)

  def test_blending_is_the_official_one(self):
    golden = np.load(GOLDEN / "comp_flow_tiling.npz")
    grid = [tuple(corner) for corner in golden["in:grid"].tolist()]
    self.assertEqual(tiles.corners(11, 22, 6, 8, 2), grid)
    flows = dict(zip(grid, golden["in:patch_flows"][:, 0], strict=True))
    whole = tiles.blended(lambda y, x: flows[y, x], 11, 22, (6, 8), 2)
    self.assertEqual(whole.dtype, np.float32)
    np.testing.assert_allclose(
        whole, golden["out:flow"][0], rtol=1e-5, atol=1e-6
    )
    total = np.zeros([11, 22])
    for y, x in grid:
      total[y : y + 6, x : x + 8] += tiles.weights(6, 8)
    np.testing.assert_array_equal(total, golden["out:weight_sum"][0, ..., 0])

  @parameterized.parameters((13, 17), (29, 17), (23, 67), (26, 34))
  def test_tiles_of_one_flow_make_that_flow(self, height, width):
    rng = np.random.default_rng(3)
    whole = rng.normal(size=[height, width, 2]).astype(np.float32)
    asked = []

    def predict(y, x):
      asked.append((y, x))
      return whole[y : y + 13, x : x + 17]

    again = tiles.blended(predict, height, width, (13, 17), 5)
    np.testing.assert_allclose(again, whole, rtol=1e-5)
    self.assertEqual(asked, tiles.corners(height, width, 13, 17, 5))

  def test_an_image_smaller_than_a_tile_is_refused_with_the_sizes(self):
    for height, width in ((367, 496), (368, 495)):
      message = f"{height} x {width} pixels is smaller .* 368 x 496"
      with self.assertRaisesRegex(ValueError, message):
        tiles.blended(lambda y, x: np.zeros([368, 496, 2]), height, width)
    with self.assertRaisesRegex(ValueError, "367 pixels"):
      tiles.starts(367, 368)

  def test_an_overlap_of_whole_tiles_is_refused(self):
    with self.assertRaisesRegex(ValueError, "tiles of 20 cannot overlap by 20"):
      tiles.starts(31, 20)


if __name__ == "__main__":
  absltest.main()
