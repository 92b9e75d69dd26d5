"""Splits large images into tiles, and merges the flow of tiles."""

from collections.abc import Callable
import math

from jax import Array
import jax.numpy as jnp
import numpy as np


def starts(
    size: int, tile: int, min_overlap: int = 20, even: bool = False
) -> list[int]:
  """The starts of tiles along an axis, as few as the overlap allows.

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
    exact = np.linspace(0, size - tile, before_last + 1)
    return [int(start) for start in np.round(exact)]
  return [step * i for i in range(before_last)] + [size - tile]


def corners(
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
  ys = starts(height, tile_height, min_overlap, even)
  xs = starts(width, tile_width, min_overlap, even)
  return [(y, x) for y in ys for x in xs]


def weights(tile_height: int, tile_width: int) -> np.ndarray:
  """The distance of each pixel from the edge, [tile_height, tile_width].

  A tile knows least at its edge: what moves out of it is unseen.
  """
  y, x = (
      np.minimum(np.arange(size) + 1, size - np.arange(size))
      for size in (tile_height, tile_width)
  )
  return np.minimum(y[:, None], x[None, :]).astype(np.float32)


def blended(
    predict: Callable[[int, int], Array],
    height: int,
    width: int,
    tile: tuple[int, int] = (368, 496),
    min_overlap: int = 20,
    even: bool = False,
) -> Array:
  """The flow of a whole image, merged from its tiles.

  Args:
    predict: from a tile's top left corner y, x to its flow, [..., *tile, 2].
    height: height of the image.
    width: width of the image.
    tile: height and width of what the model sees.
    min_overlap: pixels that neighbours share, at least.
    even: as in `starts`.

  Returns:
    the tiles' mean, weighted by `weights`, [..., height, width, 2].

  Raises:
    ValueError: if the image is smaller than a tile.
  """
  weight = weights(*tile)[..., None]
  flow, total = jnp.zeros([]), np.zeros([])
  for y, x in corners(height, width, *tile, min_overlap, even):
    part = weight * predict(y, x)
    around = [(y, height - y - tile[0]), (x, width - x - tile[1]), (0, 0)]
    flow += jnp.pad(part, [(0, 0)] * (part.ndim - 3) + around)
    total = total + np.pad(weight, around)
  return flow / total.astype(np.float32)
