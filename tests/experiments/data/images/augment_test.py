"""What becomes of an image before a classifier sees it."""

import io

import cv2
import numpy as np
from PIL import Image
from PIL import ImageOps
import pytest

from experiments.data import pipeline
from experiments.data.images import augment
from experiments.data.images import bicubic
from experiments.data.images import image
from tests.conftest import GOLDEN

RELEASED = dict(np.load(GOLDEN / "comp_eval_preprocess.npz"))


def noise(height, width, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


def smooth(height, width):
  """An image that JPEG can hold well."""
  return cv2.resize(noise(5, 7), (width, height))


def run(steps, example, seed=0):
  rng = np.random.default_rng(seed)
  return pipeline.in_turn(steps)(example, rng)


def evaluated(content, size=31):
  """What is evaluated of a file, in 0 to 255."""
  example = {"image": content, "file": "some.file"}
  pixels = run(augment.eval_steps(size), example)["image"]
  return pixels * image.STD + image.MEAN


def encoded(pixels, **how):
  """A file of pixels, by Pillow."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, **how)
  return file.getvalue()


@pytest.mark.parametrize("i", range(4))
def test_what_is_evaluated_is_what_the_release_evaluates(i):
  expected = RELEASED[f"out{i}"]
  example = {"image": RELEASED[f"in{i}"], "label": 3, "file": "in"}
  result = run(augment.eval_steps(len(expected)), example)
  assert result.keys() == {"image", "label"} and result["label"] == 3
  assert result["image"].dtype == np.float32
  np.testing.assert_allclose(result["image"], expected, atol=3e-6)


# Of 20,000 boxes of TensorFlow 2.21's tf.image.sample_distorted_bounding_box:
# means, and deviations, of top, left, height and width.
BOXES = {
    (375, 500): ([59.3, 117.6, 254.8, 264.4], [53.1, 83.6, 69.8, 83.5]),
    (500, 200): ([175.3, 23.9, 149.1, 151.5], [103.2, 21.9, 36.1, 28.9]),
    (32, 32): ([5.56, 5.26, 19.95, 20.44], [4.92, 4.84, 6.08, 6.11]),
}


@pytest.mark.parametrize("height, width", BOXES)
def test_boxes_are_distributed_as_tensorflows(height, width):
  rng = np.random.default_rng(0)
  boxes = [augment.random_box(height, width, rng) for _ in range(5000)]
  mean, deviation = np.array(BOXES[height, width])
  # Four deviations of the difference of two means.
  most = 4 * deviation * np.sqrt(1 / 5000 + 1 / 20_000)
  assert (np.abs(np.mean(boxes, axis=0) - mean) < most).all()
  np.testing.assert_allclose(np.std(boxes, axis=0), deviation, rtol=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 101), (97, 31)])
def test_boxes_are_inside_of_the_image(size):
  rng = np.random.default_rng(0)
  for _ in range(200):
    top, left, y, x = augment.random_box(*size, rng)
    assert top >= 0 and y > 0 and top + y <= size[0]
    assert left >= 0 and x > 0 and left + x <= size[1]
    if (y, x) != size:
      assert y * x >= 0.1 * size[0] * size[1]
      assert x <= round(y * 4 / 3) and x >= round(y * 3 / 4)


def test_an_image_too_long_for_any_box_is_evaluated_in_the_middle():
  pixels = noise(7, 211)
  rng = np.random.default_rng(0)
  cropped = augment.random_crop({"image": pixels}, rng)["image"]
  expected = augment.centre_crop({"image": pixels})["image"]
  assert expected.shape == (6, 6, 3)
  np.testing.assert_array_equal(cropped, expected)


def test_a_crop_is_a_part_of_the_image():
  y, x = np.mgrid[:97, :101]
  pixels = np.dstack([y, x, 0 * x]).astype(np.uint8)
  cropped = run([augment.random_crop], {"image": pixels})["image"]
  top, left = cropped[0, 0, :2]
  height, width, _ = cropped.shape
  part = pixels[top : top + height, left : left + width]
  assert 1 < height < 97
  np.testing.assert_array_equal(cropped, part)


def test_half_of_the_images_are_flipped():
  pixels = noise(5, 7)
  rng = np.random.default_rng(0)
  flipped = 0
  for _ in range(400):
    result = augment.random_flip({"image": pixels}, rng)["image"]
    if (result == pixels[:, ::-1]).all():
      flipped += 1
    else:
      np.testing.assert_array_equal(result, pixels)
  assert 160 < flipped < 240


def test_randaugment_sees_the_crop_in_its_own_size(monkeypatch):
  seen = []

  def spy(example, rng, num_layers, magnitude):
    seen.append((example["image"].shape, num_layers, magnitude))
    return example

  monkeypatch.setattr(augment, "randaugment", spy)
  example = {"image": noise(101, 211), "file": "noise"}
  result = run(augment.train_steps(31, 3, 7.0), example)
  shape, *settings = seen[0]
  assert result["image"].shape == (31, 31, 3)
  assert min(shape[:2]) > 31 and settings == [3, 7.0] and len(seen) == 1
  run(augment.train_steps(31, num_layers=0), example)
  assert len(seen) == 1


def test_training_crops_flips_resizes_and_normalises():
  pixels = noise(101, 211)
  example = {"image": pixels, "label": 3, "file": "noise"}
  result = run(augment.train_steps(31, num_layers=0), example, seed=5)
  crop = [augment.random_crop, augment.random_flip]
  cropped = run(crop, {"image": pixels}, seed=5)["image"]
  expected = (bicubic.resize(cropped, 31, 31) - image.MEAN) / image.STD
  np.testing.assert_allclose(result["image"], expected, atol=1e-5)


@pytest.mark.parametrize("quality", [50, 95])
def test_jpeg_is_decoded(quality):
  pixels = smooth(97, 113)
  content = encoded(pixels, format="JPEG", quality=quality)
  decoded = image.decode(content, "")
  assert np.abs(decoded.astype(int) - pixels).mean() < 6
  np.testing.assert_allclose(evaluated(content), evaluated(pixels), atol=25)


def test_a_jpeg_has_tensorflows_pixels():
  # By TensorFlow 2.21's tf.io.decode_jpeg, of a part of scikit-image's cat.
  golden = np.load(GOLDEN / "jpeg_tensorflow.npz")
  decoded = image.decode(golden["jpeg"].tobytes(), "")
  np.testing.assert_array_equal(decoded, golden["pixels"])


def test_a_gray_jpeg_is_read():
  gray = smooth(97, 113)[..., 0]
  content = encoded(gray, format="JPEG", quality=95)
  decoded = image.decode(content, "")
  assert decoded.shape == (97, 113, 3) and not np.ptp(decoded, axis=2).any()
  assert np.abs(decoded[..., 0].astype(int) - gray).max() < 9


def test_a_cmyk_jpeg_is_read():
  file = io.BytesIO()
  pixels = smooth(97, 113)
  Image.fromarray(pixels).convert("CMYK").save(file, "JPEG", quality=95)
  decoded = image.decode(file.getvalue(), "")
  assert np.abs(decoded.astype(int) - pixels).mean() < 6


def test_a_png_with_16_bits_is_read():
  deep = smooth(97, 113).astype(np.uint16) * 257
  content = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
  np.testing.assert_allclose(evaluated(content), evaluated(smooth(97, 113)))


def test_an_image_is_not_turned_upright():
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees.
  content = encoded(smooth(97, 113), format="JPEG", exif=exif)
  assert image.decode(content, "").shape == (97, 113, 3)
  content = encoded(smooth(97, 113), format="PNG", exif=exif)
  assert image.decode(content, "").shape == (97, 113, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are none.
def test_images_are_turned_upright_where_that_is_set(orientation, kind):
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, [2, 3, 3], np.uint8).repeat(8, 0).repeat(8, 1)
  file, exif = io.BytesIO(), Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(small).save(file, kind, exif=exif)
  content = file.getvalue()
  given = {"image": content, "file": "a"}
  as_stored = augment.decode(given)["image"]
  assert as_stored.shape == (16, 24, 3)
  upright = augment.decode(given, upright=True)["image"]
  with Image.open(io.BytesIO(content)) as opened:
    expected = np.asarray(ImageOps.exif_transpose(opened))
  assert upright.shape == expected.shape
  assert np.abs(upright.astype(int) - expected).mean() < 6  # Another decoder.
  steps = augment.eval_steps(8, True)
  found = augment.normalised(augment.centre_crop({"image": upright}), 8)
  np.testing.assert_array_equal(run(steps, given)["image"], found["image"])


@pytest.mark.parametrize("steps", ["train_steps", "eval_steps"])
def test_a_single_pixel_becomes_one_colour(steps):
  content = encoded(np.full([1, 1, 3], 77, np.uint8), format="PNG")
  settings = {"num_layers": 0} if steps == "train_steps" else {}
  steps = getattr(augment, steps)(31, **settings)
  pixels = run(steps, {"image": content})["image"] * image.STD + image.MEAN
  np.testing.assert_allclose(pixels, np.full([31, 31, 3], 77), atol=1e-3)


def test_gray_pixels_get_colours():
  gray = noise(37, 41)[..., :1]
  both = evaluated(gray), evaluated(np.repeat(gray, 3, axis=2))
  np.testing.assert_array_equal(*both)


WHOLE = encoded(noise(97, 113), format="JPEG")
BROKEN = {
    "empty": b"",
    "no_image": b"no image at all",
    "cut_off": WHOLE[: len(WHOLE) // 2],
    "only_a_start": WHOLE[:2],
    "png_cut_off": encoded(noise(97, 113), format="PNG")[:900],
}


@pytest.mark.parametrize("name, content", BROKEN.items())
def test_a_broken_file_is_named(name, content):
  for steps in (augment.train_steps(31), augment.eval_steps(31)):
    with pytest.raises(image.ImageError, match=f"{name} holds no image"):
      run(steps, {"image": content, "file": name})
