"""Smooth surfaces through points of a grid, and the places of pixels."""

import functools
from typing import NamedTuple

import numpy as np

# The weights of four neighbours in a row are [1, t, t², t³] times this, t of
# the way from the second to the third: "smooth" has a continuous curvature,
# "through" has the neighbours' own values at t = 0 and 1.
_CUBICS = {
    "smooth": np.array(
        [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], np.float32
    )
    / 6,
    "through": np.array(
        [[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]],
        np.float32,
    )
    / 2,
}


class Box(NamedTuple):
  """Some columns and rows of a frame."""

  left: int
  top: int
  right: int  # The first column that is not in it.
  bottom: int

  @property
  def slices(self) -> tuple[slice, slice]:
    """Slices that select the box from an array."""
    return slice(self.top, self.bottom), slice(self.left, self.right)

  @property
  def shape(self) -> tuple[int, int]:
    """Its height and width."""
    return self.bottom - self.top, self.right - self.left


def windows(points: np.ndarray, axis: int) -> np.ndarray:
  """Four neighbours along an axis, in a new last axis."""
  windows = np.lib.stride_tricks.sliding_window_view(points, 4, axis)
  return np.ascontiguousarray(windows)


def weights(t: np.ndarray, cubic: str) -> np.ndarray:
  """Of four neighbours, [..., 4]."""
  constant, linear, square, cube = _CUBICS[cubic]
  t = t.astype(np.float32)[..., None]
  return constant + t * (linear + t * (square + t * cube))


@functools.cache
def _phases(step: int, cubic: str) -> np.ndarray:
  """The weights of the pixels from one point to the next, [4, step]."""
  return np.ascontiguousarray(weights(np.arange(step) / step, cubic).T)


def _finer(points: np.ndarray, step: int, cubic: str) -> np.ndarray:
  """Points [..., K] for each pixel, [..., (K - 3) × step]."""
  # Many small products: BLAS would wake all its threads for a large one.
  finer = windows(points, -1) @ _phases(step, cubic)
  return finer.reshape(*points.shape[:-1], -1)


def spline(points: np.ndarray, step: int, cubic: str, box: Box) -> np.ndarray:
  """Values of the spline with points [K, J, C] at a box's pixels, [C, Y, X].

  The first point is one step above and to the left of the first pixel.
  """
  left, top = box.left // step, box.top // step
  right, bottom = -(-box.right // step) + 3, -(-box.bottom // step) + 3
  rows = slice(box.top - top * step, box.bottom - top * step)
  columns = slice(box.left - left * step, box.right - left * step)
  transposed = points[top:bottom, left:right].transpose(2, 1, 0)
  by_row = _finer(transposed, step, cubic)[..., rows].transpose(0, 2, 1)
  return _finer(by_row, step, cubic)[..., columns]


def grid(width: int, height: int) -> np.ndarray:
  """The coordinates x, y of pixels, float32 [height, width, 2]."""
  x, y = np.arange(width), np.arange(height)
  return np.dstack(np.meshgrid(x, y)).astype(np.float32)


def corners(box: Box) -> np.ndarray:
  """The coordinates x, y of its corners' pixels, float32 [4, 2]."""
  left, top, right, bottom = box.left, box.top, box.right - 1, box.bottom - 1
  corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
  return np.array(corners, np.float32)
