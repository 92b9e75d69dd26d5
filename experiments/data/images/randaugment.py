"""RandAugment: a few changes of an image, chosen at random.

Every image is RGB, uint8 [Y, X, 3]; what a change leaves empty is `FILL`.

Source: Cubuk et al., 2019, as TensorFlow's version computes it, with which
Perceiver IO was trained. It deviates from the paper in places; each is named
below.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from experiments.data.pipeline import Example

FILL = 128
_LEVELS = np.arange(256)
# Of red, green and blue in the lightness of a colour.
_LIGHTNESS = np.array([0.2989, 0.587, 0.114], np.float32)


def randaugment(
    example: Example,
    rng: np.random.Generator,
    num_layers: int = 4,
    magnitude: float = 5.0,
) -> Example:
  """A step: applies random operations to an image.

  Args:
    example: with "image".
    rng: chooses each operation, all as likely, the same one again too.
    num_layers: number of operations.
    magnitude: their strength, 0 to 10. At 5, as published, the four that
      blend two images (`OPERATIONS`) are those that change nothing.
  """
  image = example["image"]
  for i in rng.integers(len(OPERATIONS), size=num_layers):
    image = OPERATIONS[i].apply(image, magnitude, rng)
  return {**example, "image": image}


def auto_contrast(image: np.ndarray) -> np.ndarray:
  """Every channel stretched to 0 to 255, unless it is constant."""
  # Of columns first: numpy is slow along an axis of three.
  low = image.min(axis=0).min(axis=0).astype(np.float32)
  high = image.max(axis=0).max(axis=0).astype(np.float32)
  scale = np.where(low < high, 255 / np.maximum(high - low, 1), np.float32(1))
  offset = np.where(low < high, -low * scale, np.float32(0))
  return _mapped(image, _LEVELS[:, None].astype(np.float32) * scale + offset)


def equalize(image: np.ndarray) -> np.ndarray:
  """Every channel with about as many pixels of each level as of another."""
  table = np.empty([256, 3], np.float32)
  for i in range(3):
    counts = cv2.calcHist([image], [i], None, [256], [0, 256])
    counts = counts.ravel().astype(np.int64)
    step = (counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
    table[:, i] = _LEVELS
    if step:
      below = (np.cumsum(counts) + step // 2) // step
      table[:, i] = np.concatenate([[0], below[:-1]])
  return _mapped(image, table)


def invert(image: np.ndarray) -> np.ndarray:
  """Light becomes dark."""
  return 255 - image


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
  """Keeps only the first bits of each value, 0 to 8."""
  return image & np.uint8(0xFF00 >> int(bits) & 0xFF)


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
  """Inverts values that are not below a level."""
  return _mapped(image, np.where(_LEVELS < threshold, _LEVELS, 255 - _LEVELS))


def solarize_add(image: np.ndarray, amount: float) -> np.ndarray:
  """Adds an amount to values below 128."""
  return _mapped(image, np.where(_LEVELS < 128, _LEVELS + amount, _LEVELS))


def color(image: np.ndarray, factor: float) -> np.ndarray:
  """More colourful; grey at factor 0, unchanged at 1."""
  if factor == 1:
    return image
  return _blended(cv2.merge([_grey(image)] * 3), image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """With more contrast; one grey at factor 0, unchanged at 1.

  That grey should be the image's mean. TensorFlow's version takes the mean of
  the histogram's 256 counts, 255 at most, and so does this.
  """
  if factor == 1:
    return image
  grey = min(image.shape[0] * image.shape[1] // 256, 255)
  return _blended(np.full_like(image, grey), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
  """Lighter; black at factor 0, unchanged at 1."""
  if factor == 1:
    return image
  return _blended(np.zeros_like(image), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
  """Sharper, but for its border; smooth at factor 0, unchanged at 1."""
  if factor == 1 or min(image.shape[:2]) < 3:
    return image
  kernel = np.ones([3, 3], np.float32)
  kernel[1, 1] = 5
  kernel /= 13
  smooth = cv2.filter2D(image.astype(np.float32), -1, kernel)
  soft = image.copy()
  soft[1:-1, 1:-1] = np.clip(smooth[1:-1, 1:-1], 0, 255).astype(np.uint8)
  return _blended(soft, image, factor)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
  """Turned around its middle, clockwise if the angle is negative."""
  sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
  middle_y, middle_x = (np.array(image.shape[:2]) - 1) / 2
  x = np.arange(image.shape[1]) - middle_x
  y = np.arange(image.shape[0])[:, None] - middle_y
  # Of what comes to lie at (x, y). `cv2.warpAffine` would compute this with
  # only ten bits of fractions.
  from_x = np.add(cosine * x, middle_x - sine * y, dtype=np.float32)
  from_y = np.add(sine * x, middle_y + cosine * y, dtype=np.float32)
  return cv2.remap(
      image,
      from_x,
      from_y,
      cv2.INTER_NEAREST,
      borderMode=cv2.BORDER_CONSTANT,
      borderValue=(FILL,) * 3,
  )


def shear_x(image: np.ndarray, amount: float) -> np.ndarray:
  """Each row moved to the left by an amount times its number."""
  return _rows_moved(image, amount * np.arange(image.shape[0]))


def shear_y(image: np.ndarray, amount: float) -> np.ndarray:
  """Each column moved up by an amount times its number."""
  return _columns_moved(image, amount * np.arange(image.shape[1]))


def translate_x(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moved to the left."""
  return _rows_moved(image, np.full(image.shape[0], pixels))


def translate_y(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moved up."""
  return _columns_moved(image, np.full(image.shape[1], pixels))


def cutout(
    image: np.ndarray, half: float, centre: tuple[int, int]
) -> np.ndarray:
  """Without a square of twice `half` pixels around (y, x)."""
  image = image.copy()
  (top, left), size = (max(0, c - int(half)) for c in centre), int(half)
  image[top : centre[0] + size, left : centre[1] + size] = FILL
  return image


class Operation(NamedTuple):
  """An operation of RandAugment with its range of strength."""

  change: Callable[..., np.ndarray]
  # Its argument is `least`, and `more` for each 10 of magnitude; if that is
  # None, it has none.
  more: float | None = None
  least: float = 0.0
  signed: bool = False  # Whether it as often gets minus its argument.
  whole: bool = False  # Whether its argument is rounded down.
  placed: bool = False  # Whether it happens at a random pixel.

  def apply(
      self, image: np.ndarray, magnitude: float, rng: np.random.Generator
  ) -> np.ndarray:
    """The image after the operation."""
    arguments = []
    if self.more is not None:
      amount = magnitude / 10 * self.more + self.least
      amount = float(int(amount)) if self.whole else amount
      sign = -1 if self.signed and rng.random() < 0.5 else 1
      arguments.append(sign * amount)
    if self.placed:
      arguments.append(tuple(rng.integers(image.shape[:2]).tolist()))
    return self.change(image, *arguments)


OPERATIONS = (
    Operation(auto_contrast),
    Operation(equalize),
    Operation(invert),
    Operation(rotate, 30, signed=True),  # degrees
    Operation(posterize, 4, whole=True),  # bits
    Operation(solarize, 256, whole=True),  # levels
    Operation(solarize_add, 110, whole=True),  # levels
    Operation(color, 1.8, least=0.1),
    Operation(contrast, 1.8, least=0.1),
    Operation(brightness, 1.8, least=0.1),
    Operation(sharpness, 1.8, least=0.1),
    Operation(shear_x, 0.3, signed=True),
    Operation(shear_y, 0.3, signed=True),
    Operation(translate_x, 100, signed=True),  # pixels
    Operation(translate_y, 100, signed=True),  # pixels
    Operation(cutout, 40, whole=True, placed=True),  # pixels
)


def _mapped(image: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Every value replaced by a table's, [256] or [256, 3], which is clipped."""
  return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None])


def _grey(image: np.ndarray) -> np.ndarray:
  grey = (image.astype(np.float32) / 255) @ _LIGHTNESS
  return np.clip(grey * 255.5, 0, 255).astype(np.uint8)


def _blended(zero: np.ndarray, one: np.ndarray, factor: float) -> np.ndarray:
  """Linear interpolation of two images by a factor, rounded down."""
  zero = zero.astype(np.float32)
  blend = zero + np.float32(factor) * (one - zero)
  return np.clip(blend, 0, 255).astype(np.uint8)


def _rows_moved(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  """Each row moved to the left by its own number of pixels.

  What comes to lie at x is the pixel nearest to x + pixels; of two, the right
  one; but nothing, if that place is half a pixel outside of the image.
  """
  height, width, _ = image.shape
  moved = np.full_like(image, FILL)
  pixels = pixels.astype(np.float32)
  shift = np.floor(pixels + 0.5).astype(int)
  first = np.maximum(np.floor(-0.5 - pixels).astype(int) + 1, 0)
  changes = np.flatnonzero(np.diff(shift) | np.diff(first)) + 1
  for rows in np.split(np.arange(height), changes):
    band, by, start = (
        slice(rows[0], rows[-1] + 1),
        shift[rows[0]],
        first[rows[0]],
    )
    stop = width - max(by, 0)
    if start < stop:
      moved[band, start:stop] = image[band, start + by : stop + by]
  return moved


def _columns_moved(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  return _rows_moved(image.swapaxes(0, 1), pixels).swapaxes(0, 1)
