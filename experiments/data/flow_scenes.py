"""Pairs of frames whose optical flow is known: drawn, or of photographs.

A pair is "frames", RGB, uint8 [2, Y, X, 3]; "flow", float32 [Y, X, 2], how many
pixels what is at each pixel of the first frame moves, x first and rightwards, y
second and downwards; and, bool [Y, X], whether the flow is "known" and whether
what is seen there is still "visible" in the second frame: not hidden, not
outside.

Source: AutoFlow: Learning a Better Training Set for Optical Flow, Sun et al.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import importlib.util
import math
import operator
import os
import pathlib
from typing import Any, NamedTuple

import cv2
import numpy as np

from experiments.data import flow_files
from experiments.data import image

Pair = dict[str, np.ndarray]
Path = str | os.PathLike[str]

# Those of scikit-image's pictures that show something, and in its wheel.
_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "retina.jpg",
    "rocket.jpg",
)
_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_HELD_OUT = 4  # One in so many textures is for tests.
_LONGEST_SIDE = 1024  # Of a texture; a larger one is made smaller.

_SPACING = 64  # Pixels between the points that bend a layer.
_MAX_WARP = _SPACING / 8  # With more, a layer could fold over itself.
_STEP = 10  # Pixels between those for which a movement is inverted.
_ROUNDS = 4  # Of the inversion: each leaves a small part of the error.
_TAPS = 11  # Moments of which a blurred picture is the mean, at most; odd.
_GAP = 3  # Pixels in which there are two more.
_BACKGROUND = 0.4  # How much the background moves, compared with objects.
_FOG_SPACING = 128
_FOG_DRIFT = 8  # Pixels from frame to frame, at most.
_FRACTION = 4  # Bits of OpenCV's coordinates that are behind the point.

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
    """What selects it from an array."""
    return slice(self.top, self.bottom), slice(self.left, self.right)

  @property
  def shape(self) -> tuple[int, int]:
    """Its height and width."""
    return self.bottom - self.top, self.right - self.left


@dataclasses.dataclass(frozen=True)
class Motion:
  """Where points of the first frame are in the second: affine, plus a warp.

  The warp is a cubic B-spline of points that are 64 pixels apart; the third of
  each row and column has the coordinate 0. Far outside, it does not change.
  """

  matrix: np.ndarray  # [2, 3]
  bumps: np.ndarray  # [K, J, 2]: pixels by which the warp's points move.

  @property
  def knots(self) -> np.ndarray:
    """The coordinates of the warp's points, [K, J, 2]."""
    rows, columns, _ = self.bumps.shape
    return _SPACING * (_grid(columns, rows) - 2)

  def __call__(self, points: np.ndarray) -> np.ndarray:
    """Their places in the second frame, [N, 2]."""
    rows, columns, *_ = self._near.shape
    at = points / np.float32(_SPACING) + 1
    at = np.clip(at, 0, np.array([columns, rows], np.float32))
    cell = np.minimum(at.astype(int), [columns - 1, rows - 1])
    x, y = _weights((at - cell).T, "smooth")
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
    shifted = Box(*(side + _SPACING for side in box))
    return cv2.merge(list(_spline(moves, _SPACING, "smooth", shifted)))

  @functools.cached_property
  def _near(self) -> np.ndarray:
    """The 16 points around each cell, [K - 3, J - 3, 2, 16]."""
    windows = _windows(_windows(self.bumps, 0), 1)
    return windows.reshape(*windows.shape[:3], 16)


@dataclasses.dataclass(frozen=True)
class Layer:
  """Something flat that has a texture and moves."""

  texture: np.ndarray  # RGB, uint8 [y, x, 3]; mirrored beyond its edges.
  to_texture: np.ndarray  # [2, 3]: to where in it from a point of frame 1.
  motion: Motion
  outlines: tuple[np.ndarray, ...] = ()  # [N, 2] each; none: it is everywhere.
  colours: np.ndarray | None = None  # uint8 [256, 1, 3]: what becomes of each.

  def box(self, times: Sequence[float], frame: Box) -> Box:
    """What holds it at all the times, as far as that is in the frame."""
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
    """Those that are seen at once.

    Args:
      time: the middle; that of the first frame is 0, of the second 1.
      exposure: for how long.
      frame: all that is seen.
    """
    corners = _corners(frame)
    moves = self._moves or [self.motion(corners) - corners]
    longest = np.linalg.norm(np.concatenate(moves), axis=-1).max()
    count = min(1 + 2 * int(exposure * longest / _GAP), _TAPS)
    return [time + exposure * ((i + 0.5) / count - 0.5) for i in range(count)]

  def cover(self, box: Box, times: Sequence[float]) -> np.ndarray:
    """How much of each pixel it covers, uint8 [Y, X]."""
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
    """Its colours, also where it does not cover the pixel, uint8 [Y, X, 3]."""
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
    points = _grid(-(-width // _STEP) + 3, -(-height // _STEP) + 3)
    points = _STEP * (points - 1) + np.array(box[:2], np.float32)
    start = end = _affine(self.to_texture, points)
    if any(times):
      before = self.motion.inverse(points.reshape(-1, 2)).reshape(points.shape)
      end = _affine(self.to_texture, before)
    inside = Box(0, 0, width, height)
    if len(times) == 1:
      at = start + np.float32(times[0]) * (end - start)
      yield _spline(at, _STEP, "through", inside)
      return
    start, move = (
        _spline(at, _STEP, "through", inside).reshape(-1, width)
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
      "visible": _visible(flow, front),
  }


def _visible(flow: np.ndarray, front: np.ndarray) -> np.ndarray:
  """Where nothing is in front of what has moved there, in the frame."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pairs:
  """Pairs by index; each is a function of the settings and of its index.

  Attributes:
    size: height and width of the frames.
    length: how many pairs there are.
    seed: of all that is random.
    textures: pictures, or a folder with them at any depth; by default the
      photographs that come with scikit-image.
    part: which textures: "train"; "test", every fourth, which are not among
      those for training; or "all".

  Raises:
    FileNotFoundError: if there are no textures.
    ValueError: if a setting is out of its range.
  """

  size: tuple[int, int] = (368, 496)
  length: int = 40_000
  seed: int = 0
  textures: Path | Sequence[Path] | None = None
  part: str = "train"
  paths: tuple[str, ...] = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    paths = _part(_pictures(self.textures), self.part)
    object.__setattr__(self, "paths", paths)

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: int) -> Pair:
    index = operator.index(index)
    if not 0 <= index < self.length:
      raise IndexError(f"pair {index} of {self.length}")
    return self._pair(index)

  def _pair(self, index: int) -> Pair:
    raise NotImplementedError

  def _rng(self, *path: int) -> np.random.Generator:
    return np.random.default_rng([self.seed, *path])

  def _texture(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return _levels(self.paths[rng.integers(len(self.paths))])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenes(_Pairs):
  """Objects with textures that move over a background, as in AutoFlow.

  What blurs, covers or disturbs the frames does so in a third of the pairs, by
  random amounts up to the setting, and does not change the flow; 0: in none.

  Attributes:
    objects: the fewest and the most of them.
    zoom: the smallest and the largest of the objects' textures.
    translation: the longest, in pixels.
    rotation: the largest, in degrees, to either side.
    scale: the largest growth, and the inverse of the smallest.
    shear: the largest, to either side.
    warp: the largest additional movement, in pixels, at most 8.
    motion_blur: the longest exposure, as a share of the time between frames.
    fog: the share of the fog in the colour where it is thickest.
    noise: the largest standard deviation, of 255.
  """

  objects: tuple[int, int] = (3, 8)
  zoom: tuple[float, float] = (0.5, 1.5)
  translation: float = 100.0
  rotation: float = 25.0
  scale: float = 1.25
  shear: float = 0.15
  warp: float = 5.0
  motion_blur: float = 0.4
  fog: float = 0.5
  noise: float = 6.0

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.objects[0] <= self.objects[1] < 255:
      raise ValueError(f"from {self.objects[0]} to {self.objects[1]} objects")
    if not 0 < self.zoom[0] <= self.zoom[1]:
      raise ValueError(f"textures from {self.zoom[0]} to {self.zoom[1]} large")
    if not 0 <= self.warp <= _MAX_WARP:
      raise ValueError(f"warp {self.warp} is not in [0, {_MAX_WARP}] pixels")

  def layers(self, index: int) -> list[Layer]:
    """What a pair shows: the background, and the objects in front of it."""
    rng = self._rng(index)
    layers = [self._background(rng)]
    fewest, most = self.objects
    for _ in range(rng.integers(fewest, most + 1)):
      layers.append(self._object(rng))
    return layers

  def _pair(self, index: int) -> Pair:
    rng = self._rng(index, 1)  # The settings do not change the layers.
    blur, fog, noise = np.maximum(rng.uniform(-2, 1, 3), 0).tolist()
    pair = draw(self.layers(index), self.size, self.motion_blur * blur)
    frames = pair["frames"]
    if self.fog * fog:
      frames = _in_fog(frames, self.fog * fog, rng)
    if self.noise * noise:
      frames = _noisy(frames, self.noise * noise, rng)
    return {**pair, "frames": frames}

  def _background(self, rng: np.random.Generator) -> Layer:
    levels = self._texture(rng)
    height, width = self.size
    zoom = max(height / levels[0].shape[0], width / levels[0].shape[1])
    zoom *= rng.uniform(1, 1.6)
    centre = np.array([width, height]) / 2
    texture, to_texture = _placed(
        rng, levels, centre, zoom, rng.uniform(-15, 15), 0.1
    )
    return Layer(
        texture,
        to_texture,
        self._motion(rng, centre, _BACKGROUND),
        colours=_colours(rng),
    )

  def _object(self, rng: np.random.Generator) -> Layer:
    height, width = self.size
    centre = rng.uniform(-0.05, 1.05, 2) * [width, height]
    radius = min(height, width) * math.exp(rng.uniform(*np.log([0.15, 0.7])))
    zoom = math.exp(rng.uniform(*np.log(self.zoom)))
    texture, to_texture = _placed(
        rng, self._texture(rng), centre, zoom, rng.uniform(0, 360), 0.7
    )
    outlines = [_outline(rng, centre, radius)]
    if rng.uniform() < 0.25:
      hole = radius * rng.uniform(0.2, 0.5)
      outlines.append(_outline(rng, centre, hole))
    return Layer(
        texture,
        to_texture,
        self._motion(rng, centre, 1.0),
        tuple(outlines),
        _colours(rng),
    )

  def _motion(
      self, rng: np.random.Generator, centre: np.ndarray, share: float
  ) -> Motion:
    # Products of random numbers: most movements are small.
    turn, growth, *shear = rng.uniform(-1, 1, 4) * rng.uniform(0, 1, 4) * share
    linear = self.scale**growth * _turn(self.rotation * turn)
    linear = linear @ [[1, self.shear * shear[0]], [self.shear * shear[1], 1]]
    length = self.translation * share * rng.uniform() * rng.uniform()
    shift = length * _turn(rng.uniform(0, 360))[0]
    bumps = _bumps(rng, self.size, self.warp * rng.uniform())
    return Motion(_about(linear, centre, centre + shift), bumps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Homographies(_Pairs):
  """Photographs, and themselves in perspective.

  Attributes:
    motion: the longest movement of a corner along x and y, in pixels, less than
      a quarter of the frame's height and width.
  """

  length: int = 100
  part: str = "test"
  motion: float = 40.0

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.motion < min(self.size) / 4:
      raise ValueError(f"motion {self.motion} is too long for {self.size}")

  def homography(self, index: int) -> np.ndarray:
    """From the first frame to the second, [3, 3]."""
    height, width = self.size
    corners = _corners(Box(0, 0, width, height))
    moves = self._rng(index, 1).uniform(-self.motion, self.motion, [4, 2])
    moved = (corners + moves).astype(np.float32)
    return cv2.getPerspectiveTransform(corners, moved)

  def _pair(self, index: int) -> Pair:
    rng = self._rng(index)
    levels = self._texture(rng)
    height, width = self.size
    enough = (np.array(self.size) + 2 * self.motion) / levels[0].shape[:2]
    zoom = max(enough) * rng.uniform(1, 1.3)
    centre = np.array([width, height]) / 2
    texture, to_texture = _placed(rng, levels, centre, zoom, 0.0, 0.1)
    to_texture = np.vstack([to_texture, [0, 0, 1]])
    matrix = self.homography(index)
    frames = [
        cv2.warpPerspective(
            texture,
            to_texture @ back,
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for back in (np.eye(3), np.linalg.inv(matrix))
    ]
    pixels = _grid(width, height).astype(np.float64)
    flow = cv2.perspectiveTransform(pixels, matrix) - pixels
    flow = flow.astype(np.float32)
    return {
        "frames": np.stack(frames),
        "flow": flow,
        "known": np.ones(self.size, bool),
        "visible": _visible(flow, np.zeros([2, *self.size], np.uint8)),
    }


def motorcycle(shrink: int = 1) -> Pair:
  """A pair of a real scene from two places side by side, [500, 741].

  The flow is known where its disparity was measured.

  Args:
    shrink: how many pixels of a row and of a column become one; as its flow
      has the median of theirs if all are known.

  Raises:
    FileNotFoundError: if scikit-image, which has it, is not installed.

  Source: High-resolution stereo datasets with subpixel-accurate ground truth,
  Scharstein et al.
  """
  folder = _skimage_folder()
  frames = [
      image.read(folder / f"motorcycle_{s}.png") for s in ("left", "right")
  ]
  with np.load(folder / "motorcycle_disp.npz") as arrays:
    disparity = arrays["arr_0"]
  height, width = (side // shrink for side in disparity.shape)
  disparity = disparity[: height * shrink, : width * shrink]
  frames = [
      cv2.resize(
          frame[: height * shrink, : width * shrink],
          (width, height),
          interpolation=cv2.INTER_AREA,
      )
      for frame in frames
  ]
  blocks = disparity.reshape(height, shrink, width, shrink)
  disparity = np.median(blocks.swapaxes(1, 2), axis=(2, 3)) / shrink
  known = np.isfinite(blocks).all((1, 3))
  disparity = np.where(known, disparity, 0).astype(np.float32)
  rows, columns = np.indices(known.shape)
  there = np.rint(columns - disparity).astype(int)
  inside = known & (there >= 0)
  nearest = np.zeros_like(disparity)
  # What is nearer moves further, and hides what else would be there.
  np.maximum.at(nearest, (rows[inside], there[inside]), disparity[inside])
  visible = inside & (disparity > nearest[rows, np.maximum(there, 0)] - 1)
  return {
      "frames": np.stack(frames),
      "flow": np.dstack([-disparity, np.zeros_like(disparity)]),
      "known": known,
      "visible": visible,
  }


def write_autoflow(
    index: int, scenes: Any, folder: Path, batches: int = 4
) -> pathlib.Path:
  """Writes a pair as AutoFlow's files.

  Args:
    index: of the pair.
    scenes: pairs, by index.
    folder: to which "static_40k_png_1_of_4/table_T_batch_S/" is added, with
      im0.png, im1.png and, last of all, forward.flo.
    batches: how many S there are for each T.

  Returns:
    The pair's folder. If forward.flo is there already, nothing is written.
  """
  table, batch = divmod(index, batches)
  name = f"table_{table}_batch_{batch}"
  path = pathlib.Path(folder) / "static_40k_png_1_of_4" / name
  if (path / "forward.flo").exists():
    return path
  path.mkdir(parents=True, exist_ok=True)
  pair = scenes[index]
  for number, frame in enumerate(pair["frames"]):
    png = cv2.imencode(".png", frame[..., ::-1])[1]
    (path / f"im{number}.png").write_bytes(png.tobytes())
  part = path / "forward.part"
  flow_files.write_flo(part, pair["flow"], pair["known"])
  part.rename(path / "forward.flo")
  return path


def _skimage_folder() -> pathlib.Path:
  """Where scikit-image has its pictures."""
  spec = importlib.util.find_spec("skimage")
  if spec is None or not spec.submodule_search_locations:
    raise FileNotFoundError(
        "the photographs are those of scikit-image: `pip install scikit-image`,"
        " or name other textures"
    )
  return pathlib.Path(spec.submodule_search_locations[0]) / "data"


def _pictures(textures: Path | Sequence[Path] | None) -> list[str]:
  if textures is None:
    folder = _skimage_folder()
    return [str(folder / name) for name in _PHOTOGRAPHS]
  if not isinstance(textures, str | os.PathLike):
    if not textures:
      raise FileNotFoundError("there is no texture: the list is empty")
    return [str(path) for path in textures]
  found = sorted(
      str(path)
      for path in pathlib.Path(textures).expanduser().rglob("*")
      if path.suffix.lower() in _ENDINGS
  )
  if not found:
    raise FileNotFoundError(
        f"{textures} holds no pictures ({', '.join(_ENDINGS)})"
    )
  return found


def _part(paths: Sequence[str], part: str) -> tuple[str, ...]:
  if part not in ("train", "test", "all"):
    raise ValueError(f'part {part!r} is not "train", "test" or "all"')
  if part == "test" and len(paths) < _HELD_OUT:
    raise FileNotFoundError(
        f"of {len(paths)} textures none is for tests: {_HELD_OUT} are needed,"
        f" {paths[0]} is there"
    )
  is_test = lambda i: i % _HELD_OUT == _HELD_OUT - 1
  return tuple(
      path
      for i, path in enumerate(paths)
      if part == "all" or is_test(i) == (part == "test")
  )


# A process reads each file once, as long as there are not too many.
@functools.lru_cache(maxsize=256)
def _levels(path: str) -> tuple[np.ndarray, ...]:
  """A picture, and itself in half of the size before as long as it is large."""
  picture = image.read(path)
  shrink = _LONGEST_SIDE / max(picture.shape)
  if shrink < 1:
    picture = cv2.resize(
        picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA
    )
  levels = [picture]
  while min(levels[-1].shape[:2]) > 64:
    height, width, _ = levels[-1].shape
    half = (width // 2, height // 2)
    levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
  return tuple(levels)


def _placed(
    rng: np.random.Generator,
    levels: Sequence[np.ndarray],
    centre: np.ndarray,
    zoom: float,
    angle: float,
    slack: float,
) -> tuple[np.ndarray, np.ndarray]:
  """A texture in a size that fits, and where in it points of frame 1 are.

  Args:
    rng: of the place in the texture, and of whether it is flipped.
    levels: the texture's sizes.
    centre: the point at which a random place of it comes to lie.
    zoom: how much larger than the first size it appears.
    angle: by which it is turned, in degrees.
    slack: the share of the texture in whose middle the random place is.
  """
  level = int(np.clip(round(-math.log2(zoom)), 0, len(levels) - 1))
  texture = levels[level]
  linear = _turn(angle) / (zoom * 2**level)
  linear[0] *= rng.choice([-1, 1])
  height, width, _ = texture.shape
  place = (0.5 + slack * rng.uniform(-0.5, 0.5, 2)) * [width, height]
  return texture, _about(linear, centre, place)


def _colours(rng: np.random.Generator) -> np.ndarray:
  """A random change of contrast, brightness and tint, uint8 [256, 1, 3]."""
  curve = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.7, 1.4)
  gain = rng.uniform(0.7, 1.2) * rng.uniform(0.8, 1.2, 3)
  lift = rng.uniform(-0.1, 0.15)
  table = np.clip(255 * (gain * curve + lift), 0, 255)
  return table.astype(np.uint8)[:, None]


def _bumps(
    rng: np.random.Generator, size: tuple[int, int], strength: float
) -> np.ndarray:
  """The points of a random warp of frames of a size."""
  # One more than needed on each side, so that it ends where no frame shows it.
  points = [-(-n // _SPACING) + 5 for n in size]
  return (strength * rng.uniform(-1, 1, [*points, 2])).astype(np.float32)


def _outline(
    rng: np.random.Generator, centre: np.ndarray, radius: float
) -> np.ndarray:
  """Points around a random polygon, some of whose corners are round, [N, 2]."""
  count = int(rng.integers(3, 11))
  angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.8, count)) / count
  corners = np.stack([np.cos(angles), np.sin(angles)], -1)
  corners *= radius * rng.uniform(0.45, 1, [count, 1])
  corners *= [1, rng.uniform(0.4, 1)]
  corners = centre + corners @ _turn(rng.uniform(0, 360))
  # How far from a corner towards its neighbours the curve begins.
  far = rng.uniform(0, 0.5, [count, 1]) * (rng.uniform(size=[count, 1]) < 0.6)
  begin = corners + far * (np.roll(corners, 1, 0) - corners)
  end = corners + far * (np.roll(corners, -1, 0) - corners)
  t = np.linspace(0, 1, 8)[:, None]
  begin, corners, end = begin[:, None], corners[:, None], end[:, None]
  curves = (1 - t) ** 2 * begin + 2 * t * (1 - t) * corners + t**2 * end
  # Straight edges have points as well: a warp bends them.
  edges = end + t[1:-1] * (np.roll(begin, -1, 0) - end)
  points = np.concatenate([curves, edges], axis=1)
  return points.reshape(-1, 2).astype(np.float32)


def _in_fog(
    frames: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
  """The frames behind fog that drifts a little."""
  _, height, width, _ = frames.shape
  box = Box(0, 0, width + _FOG_DRIFT, height + _FOG_DRIFT)
  cells = [-(-n // _FOG_SPACING) + 3 for n in (box.bottom, box.right)]
  points = rng.uniform(0, strength, cells).astype(np.float32)
  (density,) = _spline(points[..., None], _FOG_SPACING, "smooth", box)
  colour = np.full(frames.shape[1:], rng.uniform(150, 255), np.uint8)
  foggy = []
  for frame in frames:
    left, top = rng.integers(_FOG_DRIFT + 1, size=2)
    share = density[top : top + height, left : left + width]
    foggy.append(cv2.blendLinear(colour, frame, share, 1 - share))
  return np.stack(foggy)


def _noisy(
    frames: np.ndarray, deviation: float, rng: np.random.Generator
) -> np.ndarray:
  rows = frames.reshape(len(frames), -1)
  noise = np.empty(rows.shape, np.int8)
  # OpenCV is several times faster here; its state is the thread's own.
  cv2.setRNGSeed(int(rng.integers(2**31)))
  cv2.randn(noise, np.zeros(1), np.array([deviation]))
  return cv2.add(rows, noise, dtype=cv2.CV_8U).reshape(frames.shape)


def _windows(points: np.ndarray, axis: int) -> np.ndarray:
  """Four neighbours along an axis, in a new last axis."""
  windows = np.lib.stride_tricks.sliding_window_view(points, 4, axis)
  return np.ascontiguousarray(windows)


def _weights(t: np.ndarray, cubic: str) -> np.ndarray:
  """Of four neighbours, [..., 4]."""
  constant, linear, square, cube = _CUBICS[cubic]
  t = t.astype(np.float32)[..., None]
  return constant + t * (linear + t * (square + t * cube))


@functools.cache
def _phases(step: int, cubic: str) -> np.ndarray:
  """The weights of the pixels from one point to the next, [4, step]."""
  return np.ascontiguousarray(_weights(np.arange(step) / step, cubic).T)


def _finer(points: np.ndarray, step: int, cubic: str) -> np.ndarray:
  """Points [..., K] for each pixel, [..., (K - 3) × step]."""
  # Many small products: BLAS would wake all its threads for a large one.
  finer = _windows(points, -1) @ _phases(step, cubic)
  return finer.reshape(*points.shape[:-1], -1)


def _spline(points: np.ndarray, step: int, cubic: str, box: Box) -> np.ndarray:
  """What points [K, J, C] say for all pixels of a box, [C, Y, X].

  The first point is one step above and to the left of the first pixel.
  """
  left, top = box.left // step, box.top // step
  right, bottom = -(-box.right // step) + 3, -(-box.bottom // step) + 3
  rows = slice(box.top - top * step, box.bottom - top * step)
  columns = slice(box.left - left * step, box.right - left * step)
  transposed = points[top:bottom, left:right].transpose(2, 1, 0)
  by_row = _finer(transposed, step, cubic)[..., rows].transpose(0, 2, 1)
  return _finer(by_row, step, cubic)[..., columns]


def _mean(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """Of uint8, rounded."""
  if len(pictures) == 1:
    return pictures[0]
  total = np.zeros(pictures[0].shape, np.float32)
  for picture in pictures:
    cv2.accumulate(picture, total)
  return cv2.convertScaleAbs(total, alpha=1 / len(pictures))


def _grid(width: int, height: int) -> np.ndarray:
  """The coordinates x, y of pixels, float32 [height, width, 2]."""
  x, y = np.arange(width), np.arange(height)
  return np.dstack(np.meshgrid(x, y)).astype(np.float32)


def _corners(box: Box) -> np.ndarray:
  """The coordinates x, y of its corners' pixels, float32 [4, 2]."""
  left, top, right, bottom = box.left, box.top, box.right - 1, box.bottom - 1
  corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
  return np.array(corners, np.float32)


def _turn(degrees: float) -> np.ndarray:
  angle = math.radians(degrees)
  cos, sin = math.cos(angle), math.sin(angle)
  return np.array([[cos, -sin], [sin, cos]])


def _about(
    linear: np.ndarray, centre: np.ndarray, place: np.ndarray
) -> np.ndarray:
  """The affine map that takes the centre to a place, float32 [2, 3]."""
  shift = place - linear @ centre
  return np.column_stack([linear, shift]).astype(np.float32)


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Points [..., 2], moved by a matrix [2, 3]."""
  return points @ matrix[:, :2].T + matrix[:, 2]
