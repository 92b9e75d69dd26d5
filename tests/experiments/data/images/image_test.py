"""Images: what files hold, the official crop, and normalisation."""

import json
import os
import struct
import subprocess
import sys
import zlib

from absl.testing import absltest
from absl.testing import parameterized
import cv2
import numpy as np
import pytest

from experiments.data.images import image
from tests import fuzzing
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


def resized(ending, height, width):
  """A small file whose header says another size."""
  small = np.full((16, 24, 3), 100, np.uint8)
  content = bytearray(cv2.imencode(ending, small)[1].tobytes())
  if ending == ".jpg":  # After the mark of the frame.
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
  elif ending == ".png":
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
  elif ending == ".bmp":
    content[18:26] = struct.pack("<ii", width, height)
  else:
    content = content.replace(b"24 16", b"%d %d" % (width, height))
  return bytes(content)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".ppm"])
@pytest.mark.parametrize("size", [(65_500, 65_500), (20_000, 20_000)])
def test_an_image_that_says_it_is_huge_is_refused_at_once(
    tmp_path, ending, size
):
  file, before = tmp_path / f"bomb{ending}", fuzzing.peak_mib()
  file.write_bytes(resized(ending, *size))
  for read in (image.read, lambda file: image.decode(file.read_bytes(), file)):
    with pytest.raises(image.ImageError, match="bomb.* is .* more than 100,0"):
      read(file)
  with pytest.raises(image.ImageError, match="bomb.* more than"):
    image.size_in(file)
  assert fuzzing.peak_mib() < before + 100


def test_a_jpeg_with_nothing_behind_its_header_is_refused():
  content = resized(".jpg", 9000, 9000)
  with pytest.raises(image.ImageError, match="a.jpg cannot hold 9000 × 9000"):
    image.decode(content, "a.jpg")


def test_how_large_an_image_may_be_is_a_setting():
  code = (
      "import sys; from experiments.data.images import image;"
      "image.decode(open(sys.argv[1], 'rb').read(), 'a.png')"
  )
  file = str(GOLDEN.parent.parent / "docs" / "results" / "quickstart.png")
  for limit, code_expected in (("1000", 1), ("100000000", 0)):
    done = subprocess.run(
        [sys.executable, "-c", code, file],
        env={**os.environ, "PERCEIVER_MAX_PIXELS": limit},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code_expected, done.stderr
    assert ("more than 1,000" in done.stderr) == bool(code_expected)


def test_a_pipe_is_no_image(tmp_path):
  os.mkfifo(tmp_path / "a.png")
  with pytest.raises(ValueError, match="a.png is not a regular file"):
    image.read(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_gray_and_deep_images_are_read(ending):
  gray = np.arange(32 * 24, dtype=np.uint8).reshape(32, 24)
  deep = gray.astype(np.uint16) * 100
  for pixels in (gray, deep) if ending in (".png", ".tif") else (gray,):
    content = cv2.imencode(ending, pixels)[1].tobytes()
    assert image.decode(content, "a").shape == (32, 24, 3)


if __name__ == "__main__":
  absltest.main()
