"""Moving layers, one in front of the other, and their flow.

A pair of frames is "frames", RGB, uint8 [2, Y, X, 3]; "flow", float32
[Y, X, 2], how many pixels what is at each pixel of the first frame moves, x
first and rightwards, y second and downwards; and, bool [Y, X], whether the flow
is "known" and whether what is seen there is still "visible" in the second
frame: not hidden, not outside.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools

import cv2
import numpy as np

from experiments.data.flow import splines
from experiments.data.flow.splines import Box

Pair = dict[str, np.ndarray]
SPACING = 64  # Pixels between the points that bend a layer.
MAX_WARP = SPACING / 8  # With more, a layer could fold over itself.
_STEP = 10  # Pixels between those for which a movement is inverted.
_ROUNDS = 4  # Of the inversion: each leaves a small part of the error.
_TAPS = 11  # Moments of which a blurred image is the mean, at most; odd.
_GAP = 3  # Pixels in which there are two more.
_FRACTION = 4  # Bits of OpenCV's coordinates that are behind the point.


@dataclasses.dataclass(frozen=True)
class Motion:
  """The motion of points between two frames: affine, plus a warp.

  The warp is a cubic B-spline of points that are 64 pixels apart; the third of
  each row and column has the coordinate 0. Far outside, it does not change.
  """

  matrix: np.ndarray  # [2, 3]
  bumps: np.ndarray  # [K, J, 2]: pixels by which the warp's points move.

  @property
  def knots(self) -> np.ndarray:
    """The coordinates of the warp's points, [K, J, 2]."""
    rows, columns, _ = self.bumps.shape
    return SPACING * (splines.grid(columns, rows) - 2)

  def __call__(self, points: np.ndarray) -> np.ndarray:
    """Their places in the second frame, [N, 2]."""
    rows, columns, *_ = self._near.shape
    at = points / np.float32(SPACING) + 1
    at = np.clip(at, 0, np.array([columns, rows], np.float32))
    cell = np.minimum(at.astype(int), [columns - 1, rows - 1])
    x, y = splines.weights((at - cell).T, "smooth")
    weights = y[:, :, None] * x[:, None]
    near = self._near[cell[:, 1], cell[:, 0]]
    warp = np.einsum("ncw,nw->nc", near, weights.reshape(-1, 16))
    return _affine(self.matrix, points) + warp

  def inverse(self, points: np.ndarray) -> np.ndarray:
    """Where points of the second frame, [N, 2], were in the first."""
    back = np.linalg.inv(self.matrix[:, :2]).T
    start = (points - self.matrix[:, 2]) @ back
    for _ in range(_ROUNDS):
      start = start + (points - self(start)) @ back
    return start

  def flow(self, box: Box) -> np.ndarray:
    """How far each pixel of a box moves, [Y, X, 2]."""
    # The spline of a linear function's values is that function.
    moves = _affine(self.matrix - np.eye(2, 3), self.knots) + self.bumps
    moves = moves.astype(np.float32)
    shifted = Box(*(side + SPACING for side in box))
    return cv2.merge(list(splines.spline(moves, SPACING, "smooth", shifted)))

  @functools.cached_property
  def _near(self) -> np.ndarray:
    """The 16 points around each cell, [K - 3, J - 3, 2, 16]."""
    windows = splines.windows(splines.windows(self.bumps, 0), 1)
    return windows.reshape(*windows.shape[:3], 16)


@dataclasses.dataclass(frozen=True)
class Layer:
  """A flat object with a texture and a motion."""

  texture: np.ndarray  # RGB, uint8 [y, x, 3]; mirrored beyond its edges.
  to_texture: np.ndarray  # [2, 3]: to where in it from a point of frame 1.
  motion: Motion
  outlines: tuple[np.ndarray, ...] = ()  # [N, 2] each; none: it is everywhere.
  colours: np.ndarray | None = None  # uint8 [256, 1, 3]: what becomes of each.

  def box(self, times: Sequence[float], frame: Box) -> Box:
    """The bounding box at all times, clipped to the frame."""
    if not self.outlines:
      return frame
    points = np.concatenate([o for t in times for o in self._outlines(t)])
    left, top = np.floor(points.min(0)).astype(int) - 1
    right, bottom = np.ceil(points.max(0)).astype(int) + 2
    return Box(
        max(left, frame.left),
        max(top, frame.top),
        min(right, frame.right),
        min(bottom, frame.bottom),
    )

  def times(self, time: int, exposure: float, frame: Box) -> list[float]:
    """The times that one frame averages.

    Args:
      time: the middle; that of the first frame is 0, of the second 1.
      exposure: for how long.
      frame: all that is seen.
    """
    corners = splines.corners(frame)
    moves = self._moves or [self.motion(corners) - corners]
    longest = np.linalg.norm(np.concatenate(moves), axis=-1).max()
    count = min(1 + 2 * int(exposure * longest / _GAP), _TAPS)
    return [time + exposure * ((i + 0.5) / count - 0.5) for i in range(count)]

  def cover(self, box: Box, times: Sequence[float]) -> np.ndarray:
    """The coverage of each pixel, uint8 [Y, X]."""
    masks = []
    for time in times:
      points = [
          np.rint((outline - box[:2]) * 2**_FRACTION).astype(np.int32)
          for outline in self._outlines(time)
      ]
      mask = np.full(box.shape, 0 if points else 255, np.uint8)
      masks.append(cv2.fillPoly(mask, points, 255, cv2.LINE_AA, _FRACTION))
    return _mean(masks)

  def paint(self, box: Box, times: Sequence[float]) -> np.ndarray:
    """The colours of all pixels, covered or not, uint8 [Y, X, 3]."""
    pictures = [
        cv2.remap(
            self.texture,
            x,
            y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for x, y in self.places(box, times)
    ]
    picture = _mean(pictures)
    return picture if self.colours is None else cv2.LUT(picture, self.colours)

  def places(self, box: Box, times: Sequence[float]) -> Iterator[np.ndarray]:
    """The x and y of the texture that each pixel shows, [2, Y, X].

    At the times 0 and 1 they are right to 0.02 pixels of the frame; they change
    evenly with the time.
    """
    height, width = box.shape
    points = splines.grid(-(-width // _STEP) + 3, -(-height // _STEP) + 3)
    points = _STEP * (points - 1) + np.array(box[:2], np.float32)
    start = end = _affine(self.to_texture, points)
    if any(times):
      before = self.motion.inverse(points.reshape(-1, 2)).reshape(points.shape)
      end = _affine(self.to_texture, before)
    inside = Box(0, 0, width, height)
    if len(times) == 1:
      at = start + np.float32(times[0]) * (end - start)
      yield splines.spline(at, _STEP, "through", inside)
      return
    start, move = (
        splines.spline(at, _STEP, "through", inside).reshape(-1, width)
        for at in (start, end - start)
    )
    for time in times:
      yield cv2.scaleAdd(move, time, start).reshape(2, height, width)

  def _outlines(self, time: float) -> list[np.ndarray]:
    moves = zip(self.outlines, self._moves, strict=True)
    return [outline + time * move for outline, move in moves]

  @functools.cached_property
  def _moves(self) -> list[np.ndarray]:
    return [self.motion(outline) - outline for outline in self.outlines]


def draw(
    layers: Sequence[Layer], size: tuple[int, int], exposure: float = 0.0
) -> Pair:
  """A pair of frames of layers, each in front of the one before.

  Args:
    layers: the first one has no outline; at most 255.
    size: height and width of the frames.
    exposure: for what share of the time between the frames each is exposed:
      what moves is blurred. The flow is that between the middles.
  """
  frame = Box(0, 0, size[1], size[0])
  frames = np.zeros([2, *size, 3], np.uint8)
  front = np.zeros([2, *size], np.uint8)  # The number of the layer in front.
  flow = np.zeros([*size, 2], np.float32)
  for number, layer in enumerate(layers):
    for time in (0, 1):
      times = layer.times(time, exposure, frame)
      box = layer.box([time, *times], frame)
      if min(box.shape) < 1:
        continue
      # An outline shows the moments more than what it holds.
      paint, under = layer.paint(box, times[::2]), frames[time][box.slices]
      if layer.outlines:
        share = layer.cover(box, times) / np.float32(255)
        paint = cv2.blendLinear(paint, under, share, 1 - share)
      under[:] = paint
      is_front = (layer.cover(box, [time]) > 127).view(np.uint8)
      front[time][box.slices][is_front > 0] = number
      if time == 0:
        cv2.copyTo(layer.motion.flow(box), is_front, flow[box.slices])
  return {
      "frames": frames,
      "flow": flow,
      "known": np.ones(size, bool),
      "visible": visible(flow, front),
  }


def visible(flow: np.ndarray, front: np.ndarray) -> np.ndarray:
  """The pixels of the first frame that are visible in the second."""
  height, width, _ = flow.shape
  x = flow[..., 0] + np.arange(width, dtype=np.float32)
  y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
  there = cv2.remap(
      front[1],
      x,
      y,
      cv2.INTER_NEAREST,
      borderMode=cv2.BORDER_CONSTANT,
      borderValue=255,
  )
  # At an edge the nearest pixel may show something behind the layer.
  return (there <= front[0]) & (there < 255)


def _mean(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """Of uint8, rounded."""
  if len(pictures) == 1:
    return pictures[0]
  total = np.zeros(pictures[0].shape, np.float32)
  for picture in pictures:
    cv2.accumulate(picture, total)
  return cv2.convertScaleAbs(total, alpha=1 / len(pictures))


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Points [..., 2], moved by a matrix [2, 3]."""
  return points @ matrix[:, :2].T + matrix[:, 2]
