"""Files of optical flow: Middlebury's .flo and KITTI's 16-bit PNG.

A flow is [Y, X, 2] in pixels, x first and rightwards, y second and downwards:
where what is seen at a pixel of the first frame is in the second, relative to
that pixel. Beside it, [Y, X], goes whether it is known.
"""

import os
import pathlib

import cv2
from jaxtyping import Bool
from jaxtyping import Float32
import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.images import image

Flow = Float32[np.ndarray, "Y X 2"]
Known = Bool[np.ndarray, "Y X"]

_MAGIC = b"PIEH"  # 202021.25 as a float.
_HEADER = 12  # bytes: the magic, width, height
UNKNOWN = 1e9  # What is larger is said not to be known.
# KITTI's units: 1/64 of a pixel, from an offset.
_SCALE, _ZERO = 64.0, 2**15


def read_flo(path: str | os.PathLike[str]) -> tuple[Flow, Known]:
  """A flow, zero where unknown, and a mask of known pixels.

  Raises:
    DataError: if the file is none, was cut off, or is too long.

  Source: the format of the Middlebury benchmark.
  """
  data = errors.content(path)
  if data[:4] != _MAGIC:
    raise DataError(
        f"{path} begins with {data[:4]!r}: a .flo file begins with {_MAGIC!r}"
    )
  if len(data) < _HEADER:
    raise DataError(f"{path} has {len(data)} bytes: its header is cut off")
  width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, 4))
  expected = _HEADER + 8 * width * height
  if width < 1 or height < 1 or len(data) != expected:
    raise DataError(
        f"{path} has {len(data)} bytes: its header says {width} × {height}"
        f" pixels, which take {expected}"
    )
  flow = np.frombuffer(data, "<f4", offset=_HEADER).reshape(height, width, 2)
  known = np.all(np.abs(flow) <= UNKNOWN, axis=-1)  # NaN is not.
  return np.where(known[..., None], flow, 0).astype(np.float32), known


def write_flo(
    path: str | os.PathLike[str], flow: Flow, known: Known | None = None
) -> None:
  """Writes a .flo file."""
  if flow.shape[2:] != (2,):
    raise DataError(f"{path}: a flow is [Y, X, 2], not {list(flow.shape)}")
  if known is not None:
    flow = np.where(known[..., None], flow, 10 * UNKNOWN)
  height, width, _ = flow.shape
  sizes = np.array([width, height], "<i4").tobytes()
  pathlib.Path(path).write_bytes(
      _MAGIC + sizes + np.ascontiguousarray(flow, "<f4").tobytes()
  )


def read_kitti(path: str | os.PathLike[str]) -> tuple[Flow, Known]:
  """A flow, zero where unknown, and a mask of known pixels.

  Raises:
    FileNotFoundError: if there is none.
    DataError: if it is no image of three channels with 16 bits.

  Source: the development kit of KITTI 2015.
  """
  stored = _decoded(path, cv2.IMREAD_UNCHANGED)
  if stored.dtype != np.uint16 or stored.shape[2:] != (3,):
    raise DataError(
        f"{path} is {stored.dtype} of shape {list(stored.shape)}: KITTI's flow"
        " is uint16 with three channels"
    )
  known = stored[..., 0] > 0  # OpenCV gives blue first.
  flow = (stored[..., :0:-1].astype(np.float32) - _ZERO) / _SCALE
  return np.where(known[..., None], flow, np.float32(0)), known


def write_kitti(
    path: str | os.PathLike[str], flow: Flow, known: Known | None = None
) -> None:
  """Writes a PNG of KITTI, exact to 1/128 of a pixel.

  Raises:
    DataError: if a known flow is longer than the format's 512 pixels.
  """
  known = np.ones(flow.shape[:2], bool) if known is None else known
  units = np.round(np.where(known[..., None], flow, 0) * _SCALE) + _ZERO
  if units.min() < 0 or units.max() > np.iinfo(np.uint16).max:
    raise DataError(
        f"{path}: KITTI's format holds -512 to 511.98 pixels, and a flow is"
        f" {max(np.abs(flow[known]).max(), 0):.2f}"
    )
  stored = np.dstack([known, units[..., 1], units[..., 0]]).astype(np.uint16)
  _, data = cv2.imencode(".png", stored)
  pathlib.Path(path).write_bytes(data.tobytes())


def read_flow(path: str | os.PathLike[str]) -> tuple[Flow, Known]:
  """A .flo file, or a PNG of KITTI."""
  is_picture = pathlib.Path(path).suffix == ".png"
  return read_kitti(path) if is_picture else read_flo(path)


def read_marked(path: str | os.PathLike[str]) -> Known:
  """The nonzero pixels of an image of one channel, such as Sintel's masks.

  Raises:
    FileNotFoundError: if there is none.
    DataError: if it is no image.
  """
  return _decoded(path, cv2.IMREAD_GRAYSCALE) > 0


def _decoded(path: str | os.PathLike[str], how: int) -> np.ndarray:
  return image.by_opencv(errors.content(path), path, how)
