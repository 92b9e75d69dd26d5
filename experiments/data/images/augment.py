"""Preprocessing of ImageNet for training and evaluation.

Steps of a pipeline; each takes and gives {"image": RGB, uint8 [Y, X, 3], ...}.

Source: Perceiver IO, appendix A, and the pipeline published with it.
"""

from collections.abc import Sequence
import functools
import math

import cv2
import numpy as np

from experiments.data import pipeline
from experiments.data.images import bicubic
from experiments.data.images import image as image_lib
from experiments.data.images.randaugment import randaugment
from experiments.data.pipeline import Example
from experiments.data.pipeline import Step

# Many images are prepared at a time: threads for each of them only wait.
cv2.setNumThreads(0)

# Of a crop: the share of the image's pixels, and width by height.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
# The share of the image's pixels that it must have in the end.
_COVERED = 0.1
_TRIES = 10


def train_steps(
    size: int,
    /,
    num_layers: int = 4,
    magnitude: float = 5.0,
    upright: bool = False,
) -> Sequence[Step]:
  """The steps from a file's content to a training example, before mixing.

  Args:
    size: size of the result, pixels a side.
    num_layers: operations of RandAugment; 0: crops and flips only.
    magnitude: of RandAugment, 0 to 10. Its distances are in pixels of the
      image as it is stored, so they are for photographs: at 5 it moves an image
      by 50 pixels.
    upright: as of `decode`.

  Returns:
    one step, which is all of them in turn, for Grain takes its time with each;
    from {"image": what a file holds, or its pixels, "file": its name,
    ...} to {"image": normalised, float32 [size, size, 3], ...} without "file".
    It raises `image.ImageError`, which names the file.
  """
  read = functools.partial(decode, upright=upright)
  steps: list[Step] = [read, random_crop, random_flip]
  if num_layers:
    steps.append(
        functools.partial(
            randaugment, num_layers=num_layers, magnitude=magnitude
        )
    )
  steps.append(functools.partial(normalised, size=size))
  return [pipeline.in_turn(steps)]


def eval_steps(size: int, upright: bool = False) -> Sequence[Step]:
  """The steps from a file's content to an example for evaluation."""
  return [
      functools.partial(decode, upright=upright),
      centre_crop,
      functools.partial(normalised, size=size),
  ]


def decode(example: Example, upright: bool = False) -> Example:
  """A step: the pixels of a file, in RGB, without the file's name.

  Args:
    example: "image", and "file" for errors.
    upright: whether the image is turned as its EXIF says. The release's models
      were trained on images as they are stored.
  """
  example = dict(example)
  name = example.pop("file", "an image")
  image = example["image"]
  if not isinstance(image, np.ndarray):
    content, image = image, image_lib.decode(image, name)
    if upright:
      image = image_lib.turned_upright(image, content)
  elif image.shape[2] == 1:
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
  return {**example, "image": image}


def random_crop(example: Example, rng: np.random.Generator) -> Example:
  """A step: a random crop as for Inception; see `random_box`.

  If that is the whole image, it is the square that is evaluated.
  """
  height, width, _ = example["image"].shape
  top, left, y, x = random_box(height, width, rng)
  if (y, x) == (height, width):
    return centre_crop(example)
  return {**example, "image": example["image"][top : top + y, left : left + x]}


def centre_crop(example: Example) -> Example:
  """A step: the square in the middle of 7/8 of the shorter side."""
  height, width, _ = example["image"].shape
  top, left, side = centre_box(height, width)
  square = example["image"][top : top + side, left : left + side]
  return {**example, "image": square}


def random_flip(example: Example, rng: np.random.Generator) -> Example:
  """A step: a horizontal flip with a probability of a half."""
  if rng.random() < 0.5:
    return example
  return {**example, "image": cv2.flip(example["image"], 1)}


def normalised(example: Example, size: int) -> Example:
  """A step: float32 [size, size, 3], about zero and of about one."""
  image = bicubic.resize(example["image"], size, size)
  # As rows of size * 3 numbers: numpy is slow along an axis of three.
  rows = image.reshape(size, -1)
  mean, scale = _of_rows(size)
  rows -= mean
  rows *= scale
  return {**example, "image": image}


@functools.cache
def _of_rows(size: int) -> tuple[np.ndarray, np.ndarray]:
  """The offsets and factors that normalise rows of pixels."""
  mean, scale = np.float32(image_lib.MEAN), np.float32(1 / image_lib.STD)
  return np.tile(mean, size), np.tile(scale, size)


def centre_box(height: int, width: int) -> tuple[int, int, int]:
  """The central crop of evaluation: (top, left, side), side >= 1."""
  top, left, side = image_lib.centre_crop_box(height, width)
  if not side:  # It is a single pixel wide or high: one pixel is left.
    top, left, side = top - 1, left - 1, 1
  return top, left, side


def random_box(
    height: int, width: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
  """A random part of an image.

  Its height is uniform in what leaves its area and aspect ratio in their
  ranges, and so is its place, but for the last row and column, which
  TensorFlow never draws.

  Args:
    height: height of the image.
    width: width of the image.
    rng: random generator.

  Returns:
    (top, left, height, width); the whole image if no try succeeds.

  Source: Szegedy et al., 2015, as `tf.image.sample_distorted_bounding_box` does
  it for a box around the whole image.
  """
  least, most = (share * height * width for share in _AREA)
  for _ in range(_TRIES):
    aspect = rng.uniform(*_ASPECT)
    y, x = _random_size(height, width, aspect, rng)
    area = y * x
    if not least <= area <= most or y > height or not 0 < x <= width:
      continue
    top = int(rng.integers(height - y)) if y < height else 0
    left = int(rng.integers(width - x)) if x < width else 0
    if area >= _COVERED * height * width:
      return top, left, y, x
  return 0, 0, height, width


def _random_size(
    height: int, width: int, aspect: float, rng: np.random.Generator
) -> tuple[int, int]:
  """The height and width of a part with an aspect ratio."""
  least, most = (share * height * width for share in _AREA)
  low, high = (round(math.sqrt(area / aspect)) for area in (least, most))
  if round(high * aspect) > width:
    high = int((width + 0.5 - 1e-7) / aspect)
    high -= round(high * aspect) > width
  high = min(high, height)
  y = int(rng.integers(min(low, high), high, endpoint=True))
  # Rounding may have made it a little too small or too large.
  y += y * round(y * aspect) < least
  y -= y * round(y * aspect) > most
  return y, round(y * aspect)
