"""Optical flow: its colours, and images larger than the model's."""

from collections.abc import Callable
import math

import cv2
from jax import Array
import jax.numpy as jnp
import numpy as np

from experiments.data.flow_files import UNKNOWN


def colors(flow: np.ndarray, max_length: float | None = None) -> np.ndarray:
  """A picture of flow: its direction is the hue, its length the saturation.

  Args:
    flow: [Y, X, 2]; what is unknown, infinite or no number becomes black.
    max_length: of what has the fullest colour; the longest's by default.

  Returns:
    RGB, uint8 [Y, X, 3], white where nothing moves.
  """
  with np.errstate(invalid="ignore"):  # Older NumPy warns about NaN.
    known = np.all(np.abs(flow) <= UNKNOWN, axis=-1)
  x, y = np.where(known, np.moveaxis(flow, -1, 0), 0.0)
  length = np.hypot(x, y)
  if max_length is None:
    max_length = max(length.max(), 1e-6)
  hue = np.degrees(np.arctan2(y, x)) % 360.0
  saturation = np.minimum(length / max_length, 1.0)
  hsv = np.stack([hue, saturation, known], axis=-1).astype(np.float32)
  rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
  return np.round(255.0 * rgb).astype(np.uint8)


def tile_starts(
    size: int, tile: int, min_overlap: int = 20, even: bool = False
) -> list[int]:
  """Where tiles begin along an axis, as few as the overlap allows.

  Evenly spaced, as the paper says; or as the release has them: as far apart as
  the overlap allows, and the last one moved back until it ends with the image.

  Raises:
    ValueError: if the tile is longer than the axis, or all overlap.
  """
  if size < tile:
    raise ValueError(f"a tile of {tile} does not fit into {size} pixels")
  step = tile - min_overlap
  if step < 1:
    raise ValueError(f"tiles of {tile} cannot overlap by {min_overlap}")
  before_last = math.ceil((size - tile) / step)
  if even:
    starts = np.linspace(0, size - tile, before_last + 1)
    return [int(start) for start in np.round(starts)]
  return [step * i for i in range(before_last)] + [size - tile]


def tiles(
    height: int,
    width: int,
    tile_height: int,
    tile_width: int,
    min_overlap: int = 20,
    even: bool = False,
) -> list[tuple[int, int]]:
  """The top left corners (y, x) of the tiles of an image, row by row.

  Sintel's frames have six of 368 × 496.

  Raises:
    ValueError: if the image is smaller than a tile.
  """
  if height < tile_height or width < tile_width:
    raise ValueError(
        f"an image of {height} x {width} pixels is smaller than a tile of"
        f" {tile_height} x {tile_width}"
    )
  ys = tile_starts(height, tile_height, min_overlap, even)
  xs = tile_starts(width, tile_width, min_overlap, even)
  return [(y, x) for y in ys for x in xs]


def tile_weights(tile_height: int, tile_width: int) -> np.ndarray:
  """How far each pixel is from the outside, float32 [tile_height, tile_width].

  A tile knows least at its edge: what moves out of it is unseen.
  """
  y, x = (
      np.minimum(np.arange(size) + 1, size - np.arange(size))
      for size in (tile_height, tile_width)
  )
  return np.minimum(y[:, None], x[None, :]).astype(np.float32)


def tiled(
    predict: Callable[[int, int], Array],
    height: int,
    width: int,
    tile: tuple[int, int] = (368, 496),
    min_overlap: int = 20,
    even: bool = False,
) -> Array:
  """The flow of a whole image from that of its tiles.

  Args:
    predict: from a tile's top left corner y, x to its flow, [..., *tile, 2].
    height: of the image.
    width: of the image.
    tile: height and width of what the model sees.
    min_overlap: pixels that neighbours share, at least.
    even: as in `tile_starts`.

  Returns:
    the tiles' mean, weighted by `tile_weights`, [..., height, width, 2].

  Raises:
    ValueError: if the image is smaller than a tile.
  """
  weights = tile_weights(*tile)[..., None]
  flow, total = jnp.zeros([]), np.zeros([])
  for y, x in tiles(height, width, *tile, min_overlap, even):
    part = weights * predict(y, x)
    around = [(y, height - y - tile[0]), (x, width - x - tile[1]), (0, 0)]
    flow += jnp.pad(part, [(0, 0)] * (part.ndim - 3) + around)
    total = total + np.pad(weights, around)
  return flow / total.astype(np.float32)
