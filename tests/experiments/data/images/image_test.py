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


class CentreCropTest(parameterized.TestCase):

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


if __name__ == "__main__":
  absltest.main()
