"""Images: what files hold, the official crop, and normalisation."""

import json

from absl.testing import absltest
from absl.testing import parameterized
import cv2
import numpy as np
import pytest

from experiments.data.images import image
from tests.conftest import GOLDEN

RED, BLUE = (230, 0, 0), (0, 0, 130)


def two_colors(height, width):
  """RGB: red above, blue below."""
  picture = np.full([height, width, 3], RED, np.uint8)
  picture[height // 2 :] = BLUE
  return picture


class TestRead:

  def test_colours_are_red_green_blue(self, tmp_path):
    picture = two_colors(11, 7)
    cv2.imwrite(str(tmp_path / "rgb.png"), picture[..., ::-1])
    np.testing.assert_array_equal(image.read(tmp_path / "rgb.png"), picture)

  def test_gray_becomes_colour(self, tmp_path):
    gray = np.arange(77, dtype=np.uint8).reshape(11, 7)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    read = image.read(tmp_path / "gray.png")
    np.testing.assert_array_equal(read, np.stack([gray] * 3, axis=-1))

  def test_transparency_is_dropped(self, tmp_path):
    picture = two_colors(11, 7)
    alpha = np.arange(77, dtype=np.uint8).reshape(11, 7, 1)
    bgra = np.concatenate([picture[..., ::-1], alpha], axis=-1)
    cv2.imwrite(str(tmp_path / "alpha.png"), bgra)
    np.testing.assert_array_equal(image.read(tmp_path / "alpha.png"), picture)

  @pytest.mark.parametrize("channels", [1, 3, 4])
  def test_16_bits_become_8(self, tmp_path, channels):
    deep = np.full([11, 7, channels], 200 * 256 + 100, np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    read = image.read(tmp_path / "deep.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.full([11, 7, 3], 200))

  @pytest.mark.parametrize("content", [b"", b"no image at all"])
  def test_what_is_no_image_is_refused_by_name(self, tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="broken.jpg holds no image"):
      image.read(tmp_path / "broken.jpg")

  def test_a_missing_file_is_named(self, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
      image.read(tmp_path / "missing.jpg")


class ForClassificationTest(parameterized.TestCase):

  def test_the_crop_is_the_official_one(self):
    crops = json.loads((GOLDEN / "comp_eval_crop.json").read_text())["crops"]
    self.assertLen(crops, 6)
    for crop in crops:
      box = image.centre_crop_box(crop["h"], crop["w"])
      self.assertEqual(box, (crop["top"], crop["left"], crop["size"]))

  @parameterized.parameters((31, 53, 23), (53, 31, 23), (7, 7, 3), (5, 9, 224))
  def test_the_crop_is_inside_and_in_the_middle(self, height, width, size):
    top, left, side = image.centre_crop_box(height, width, size)
    self.assertEqual(side, int(size / (size + 32) * min(height, width)))
    for begin, length in ((top, height), (left, width)):
      after = length - begin - side
      self.assertIn(begin - after, (0, 1))

  def test_pixels_are_normalised_per_channel(self):
    picture = np.full([37, 29, 3], (3, 103, 203), np.uint8)
    result = image.for_classification(picture, 23)
    self.assertEqual((result.shape, result.dtype), ((23, 23, 3), np.float32))
    expected = [
        (3 / 255 - 0.485) / 0.229,
        (103 / 255 - 0.456) / 0.224,
        (203 / 255 - 0.406) / 0.225,
    ]
    np.testing.assert_allclose(result[11, 5], expected, rtol=1e-5)
    self.assertLess(np.ptp(result, axis=(0, 1)).max(), 1e-6)

  def test_values_are_those_of_integers_that_overshoot_and_are_clipped(self):
    # An edge between 40 and 200: cubic interpolation goes beyond both.
    picture = np.full([31, 31, 3], 40, np.uint8)
    picture[:, 16:] = 200
    result = image.for_classification(picture, 97)
    pixels = result * image.STD + image.MEAN
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-4)
    self.assertLess(pixels.min(), 39.0)
    self.assertGreater(pixels.max(), 201.0)
    picture[picture == 40] = 0
    pixels = image.for_classification(picture, 97) * image.STD + image.MEAN
    self.assertGreater(pixels.min(), -1e-3)

  def test_what_is_outside_of_the_crop_is_not_seen(self):
    picture = np.full([31, 53, 3], 90, np.uint8)
    top, left, side = image.centre_crop_box(31, 53, 23)
    seen = image.for_classification(picture, 23)
    outside = np.ones([31, 53], bool)
    outside[top : top + side, left : left + side] = False
    picture[outside] = 255
    np.testing.assert_array_equal(image.for_classification(picture, 23), seen)
    picture[top, left] = 0  # The first pixel that counts.
    self.assertGreater(
        np.abs(image.for_classification(picture, 23) - seen).max(), 1.0
    )


if __name__ == "__main__":
  absltest.main()
