"""Images as sequences of their values, row by row, colours in turn."""

from collections.abc import Iterable

import cv2
import numpy as np

from experiments.data.images import image as image_lib
from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import NUM_SPECIAL


def resized(image: np.ndarray, size: int, channels: int) -> np.ndarray:
  """The central square of an image in another size, uint8 [size, size, C].

  Args:
    image: RGB or gray, uint8 [Y, X, 1 or 3].
    size: size of its sides; to shrink an image, pixels are averaged.
    channels: 3: RGB; 1: gray.
  """
  side = min(image.shape[:2])
  top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
  image = image[top : top + side, left : left + side]
  how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
  if side != size:
    image = cv2.resize(image, (size, size), interpolation=how)
  image = image.reshape(size, size, -1)
  if image.shape[2] == 1:
    return np.repeat(image, channels, axis=2)
  if channels == 1:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
  return image


def as_ids(example: Example, size: int, channels: int) -> Example:
  """An image as ids: BOS, then each value, after the special ids.

  Args:
    example: "image", what a file holds or uint8 [Y, X, C], and "file".
    size: size of the sides.
    channels: 3: RGB; 1: gray.

  Returns:
    {"ids": int32 [1 + size · size · channels]}.

  Raises:
    ImageError: if it cannot be read.
  """
  image = example["image"]
  if isinstance(image, bytes):
    image = image_lib.decode(image, example["file"])
  values = resized(image, size, channels).reshape(-1).astype(np.int32)
  return {"ids": np.concatenate([[BOS], NUM_SPECIAL + values]).astype(np.int32)}


def image_of(ids: np.ndarray, size: int, channels: int) -> np.ndarray:
  """RGB, uint8 [size, size, 3], from ids of `as_ids`; 0 for missing ids."""
  values = np.maximum(np.asarray(ids[1:], np.int64) - NUM_SPECIAL, 0)
  whole = np.zeros(size * size * channels, np.uint8)
  whole[: len(values)] = values[: len(whole)]
  image = whole.reshape(size, size, channels)
  return np.repeat(image, 3 // channels, axis=2)


def png_bits_per_value(images: Iterable[np.ndarray]) -> float:
  """Bits of a PNG file for each value of images, [Y, X, C], on average.

  With all that belongs to a file, at the highest compression.
  """
  bits, values = 0, 0
  for image in images:
    last = image[..., ::-1] if image.shape[2] == 3 else image
    png = cv2.imencode(
        ".png", np.ascontiguousarray(last), [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )
    bits += 8 * len(png[1])
    values += image.size
  return bits / max(values, 1)
