"""TensorFlow's bicubic resize, without TensorFlow."""

import functools

import cv2
import numpy as np

# Rows that are made at a time: few, since each is made of only four.
_ROWS = 8


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """The image in another size, neither rounded nor clipped.

  Args:
    image: [Y, X, C] for 1 to 4 channels, uint8 or float32.
    height: height of the result.
    width: width of the result.

  Returns:
    float32 [height, width, C]. Every value is made of 4 x 4 pixels, also where
    the image becomes smaller.

  Source: TensorFlow's `tf.image.resize(image, size, "bicubic")`: Keys' kernel
  with a = -0.5, centres of pixels at halves, fractions of places rounded to
  1/1024, and no pixels outside of the image.
  """
  channels = image.shape[2]
  # Columns first: of bytes, transposing is cheap.
  columns = _rows_resized(cv2.transpose(image), width)
  rows = cv2.transpose(columns.reshape(width, -1, channels))
  return _rows_resized(rows, height).reshape(height, width, channels)


def _rows_resized(image: np.ndarray, height: int) -> np.ndarray:
  """Resizes the first axis, [height, ...]."""
  rows = image.reshape(len(image), -1).astype(np.float32)
  resized = np.empty([height, rows.shape[1]], np.float32)
  for made, read, weights in _blocks(len(image), height):
    np.matmul(weights, rows[read], out=resized[made])
  return resized


@functools.lru_cache(maxsize=1024)
def _blocks(old: int, new: int) -> list[tuple[slice, slice, np.ndarray]]:
  """Blocks of output rows, their input rows, and weights [output, input]."""
  nearby, weights = _taps(old, new)
  blocks = []
  for start in range(0, new, _ROWS):
    made = slice(start, start + _ROWS)
    first, last = nearby[made].min(), nearby[made].max()
    matrix = np.zeros([len(nearby[made]), last - first + 1], np.float32)
    row = np.arange(len(matrix))[:, None]
    np.add.at(matrix, (row, nearby[made] - first), weights[made])
    blocks.append((made, slice(first, last + 1), matrix))
  return blocks


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
  """The four input rows of each output row, and their weights, [new, 4]."""
  one, half = np.float32(1), np.float32(0.5)
  scale = np.float32(old) / np.float32(new)
  place = (np.arange(new, dtype=np.float32) + half) * scale - half
  before = np.floor(place)
  fraction = np.rint((place - before) * 1024) / 1024
  distance = np.stack(
      [one + fraction, fraction, one - fraction, 2 - fraction], axis=1
  )
  near = (1.5 * distance - 2.5) * distance**2 + 1
  far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
  weights = np.where(distance <= 1, near, far)
  nearby = before.astype(int)[:, None] + np.arange(-1, 3)
  weights[(nearby < 0) | (nearby >= old)] = 0
  weights /= weights.sum(axis=1, keepdims=True)
  return np.clip(nearby, 0, old - 1), weights
