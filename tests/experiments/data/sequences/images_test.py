import cv2
import numpy as np
import pytest

from experiments.data.images.image import ImageError
from experiments.data.sequences import images

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(256, size=(8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_comes_back_from_its_ids(channels):
  example = {"image": COLOURED, "file": "here"}
  ids = images.as_ids(example, 8, channels)["ids"]
  assert ids.shape == (1 + 64 * channels,)
  back = images.image_of(ids, 8, channels)
  if channels == 3:
    np.testing.assert_array_equal(back, COLOURED)
  else:
    gray = cv2.cvtColor(COLOURED, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(back, np.repeat(gray[..., None], 3, 2))


def test_a_file_of_another_size_is_cut_and_averaged():
  wide = np.repeat(COLOURED.repeat(2, 0).repeat(2, 1), 1, 0)
  wide = np.pad(wide, [(0, 0), (4, 4), (0, 0)])
  png = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
  ids = images.as_ids({"image": png, "file": "a.png"}, 8, 3)["ids"]
  np.testing.assert_array_equal(images.image_of(ids, 8, 3), COLOURED)


def test_what_is_missing_is_black():
  ids = images.as_ids({"image": COLOURED, "file": ""}, 8, 3)["ids"]
  half = images.image_of(ids[: 1 + 4 * 8 * 3], 8, 3)
  np.testing.assert_array_equal(half[:4], COLOURED[:4])
  assert not half[4:].any()


def test_a_file_that_is_no_image_is_named():
  with pytest.raises(ImageError, match=r"broken\.png"):
    images.as_ids({"image": b"no image", "file": "broken.png"}, 8, 3)


def test_png_is_counted_with_all_of_its_file():
  black = np.zeros_like(COLOURED)
  noise, none = (images.png_bits_per_value([x]) for x in (COLOURED, black))
  assert noise > 8.0 > none
