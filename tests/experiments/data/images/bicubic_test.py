"""The bicubic resize is TensorFlow's."""

import numpy as np
import pytest

from experiments.data.images import bicubic
from tests.conftest import GOLDEN

RELEASED = dict(np.load(GOLDEN / "comp_eval_preprocess.npz"))
SIZES = [(32, 32), (64, 48), (16, 20)]


@pytest.mark.parametrize("height, width", SIZES)
def test_pixels_are_those_of_the_release(height, width):
  resized = bicubic.resize(RELEASED["in_resize"], height, width)
  expected = RELEASED[f"out_resize_{height}x{width}"]
  assert resized.dtype == np.float32
  # Of 0 to 255: the release's own noise of float32.
  np.testing.assert_allclose(resized, expected, atol=1e-4, rtol=0)


def test_an_image_of_its_own_size_stays():
  image = np.random.default_rng(0).integers(256, size=(13, 17, 3))
  image = image.astype(np.uint8)
  np.testing.assert_allclose(bicubic.resize(image, 13, 17), image, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 211), (509, 5)])
def test_one_colour_stays_that_colour(size, channels):
  image = np.full([*size, channels], 201, np.uint8)
  resized = bicubic.resize(image, 29, 31)
  assert resized.shape == (29, 31, channels)
  np.testing.assert_allclose(resized, 201, rtol=1e-5)


def test_height_and_width_are_not_confused():
  image = np.zeros([11, 23, 1], np.float32)
  image[:5] = 1
  resized = bicubic.resize(image, 7, 13)
  assert np.ptp(resized, axis=1).max() < 1e-6
  assert resized[0, 0, 0] > 0.9 and abs(resized[-1, 0, 0]) < 0.1


def test_what_lies_between_the_taps_is_not_seen():
  # Without smoothing, of 40 rows to 5 only four of eight are read.
  image = np.zeros([40, 3, 1], np.uint8)
  image[0::8], image[1::8], image[6::8], image[7::8] = 255, 255, 255, 255
  assert not bicubic.resize(image, 5, 3).any()
