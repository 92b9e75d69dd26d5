"""Preprocessing of clips for training and evaluation.

Steps of a pipeline; each takes and gives an example with "video": RGB, uint8
[T, Y, X, 3] until it is normalised. What is done, is done to all frames alike.
"""

import cv2
import numpy as np

from experiments.data.images import augment
from experiments.data.pipeline import Example

# How much the colours change. Source: the defaults of `color_default_augm` in
# DeepMind's reader of videos, https://github.com/google-deepmind/dmvr; the
# paper does not say.
_BRIGHTNESS = 32.0  # levels of 255, more or less
_SATURATION = (0.6, 1.4)  # factors
_CONTRAST = (0.6, 1.4)  # factors
_HUE = 0.2  # turns, to either side
# Lightness, and two differences of colours.
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
)


def random_crop(
    example: Example, rng: np.random.Generator, size: int
) -> Example:
  """A step: a random crop as for Inception, resized to a square.

  Args:
    example: with "video".
    rng: random generator of the rectangle; see `images.augment.random_box`.
    size: size of the square, pixels a side.
  """
  height, width = example["video"].shape[1:3]
  top, left, y, x = augment.random_box(height, width, rng)
  if (y, x) == (height, width):  # As for images: no rectangle was found.
    return centre_crop(example, size)
  return {**example, "video": _cut(example["video"], top, left, y, x, size)}


def centre_crop(example: Example, size: int) -> Example:
  """A step: the central crop of evaluation, resized."""
  height, width = example["video"].shape[1:3]
  top, left, side = augment.centre_box(height, width)
  return {
      **example,
      "video": _cut(example["video"], top, left, side, side, size),
  }


def random_flip(example: Example, rng: np.random.Generator) -> Example:
  """A step: a horizontal flip with a probability of a half."""
  if rng.random() < 0.5:
    return example
  return {**example, "video": example["video"][:, :, ::-1]}


def random_color(
    example: Example, rng: np.random.Generator, probability: float = 0.8
) -> Example:
  """A step: random brightness, saturation, contrast and hue.

  All four together are one map of colours, so that they are rounded and cut to
  0 to 255 once: lightness stays while colours are turned and stretched about
  grey; then all moves away from the clip's mean colour, or towards it.

  Args:
    example: with "video".
    rng: random generator.
    probability: that it is.
  """
  if rng.random() >= probability:
    return example
  video = example["video"]
  brightness = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
  saturation, contrast = rng.uniform(*_SATURATION), rng.uniform(*_CONTRAST)
  angle = 2 * np.pi * rng.uniform(-_HUE, _HUE)
  cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
  turned = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
  colors = np.linalg.inv(_TO_YIQ) @ turned @ _TO_YIQ
  # Around the mean colour after the other changes, which `colors` maps it to.
  mean = np.array(cv2.mean(video.reshape(-1, *video.shape[2:]))[:3])
  offset = brightness + (1 - contrast) * (colors @ mean)
  return {
      **example,
      "video": mapped(video, np.column_stack([contrast * colors, offset])),
  }


def mapped(video: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Every colour c replaced by matrix @ (c, 1), rounded and cut to 0 to 255.

  Args:
    video: uint8 [T, Y, X, 3].
    matrix: [3, 4].
  """
  pixels = np.ascontiguousarray(video).reshape(-1, *video.shape[2:])
  return cv2.transform(pixels, matrix).reshape(video.shape)


def normalised(example: Example) -> Example:
  """A step: scales 0 to 255 to float32 from -1 to 1."""
  video = example["video"].astype(np.float32)
  video *= np.float32(1 / 127.5)
  video -= 1
  return {**example, "video": video}


def dropout(
    example: Example, rng: np.random.Generator, name: str, probability: float
) -> Example:
  """The last step: sets a modality to 0 with a probability.

  Source: Perceiver, §4.2, so that the sound is not ignored.
  """
  if rng.random() >= probability:
    return example
  return {**example, name: np.zeros_like(example[name])}


def _cut(
    video: np.ndarray, top: int, left: int, height: int, width: int, size: int
) -> np.ndarray:
  """A rectangle of all frames, resized to a square."""
  frames = video[:, top : top + height, left : left + width]
  # The mean of all that a pixel covers; but nothing new between pixels.
  is_smaller = size < min(height, width)
  how = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
  return np.stack(
      [cv2.resize(frame, (size, size), interpolation=how) for frame in frames]
  )
