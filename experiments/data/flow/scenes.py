"""Generated pairs of frames with known flow, and moved photographs.

They are as in `layers`.

Source: AutoFlow: Learning a Better Training Set for Optical Flow, Sun et al.
"""

from collections.abc import Sequence
import dataclasses
import math
import operator
import pathlib
from typing import Any

import cv2
import numpy as np

from experiments.data import atomic
from experiments.data.flow import files as flow_files
from experiments.data.flow import layers as flow_layers
from experiments.data.flow import splines
from experiments.data.flow import textures
from experiments.data.flow.layers import Layer
from experiments.data.flow.layers import Motion
from experiments.data.flow.layers import Pair
from experiments.data.flow.splines import Box
from experiments.data.flow.textures import Path
from experiments.data.images import image

_BACKGROUND = 0.4  # How much the background moves, compared with objects.
_FOG_SPACING = 128
_FOG_DRIFT = 8  # Pixels from frame to frame, at most.


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pairs:
  """Pairs by index; each is a function of the settings and of its index.

  Attributes:
    size: height and width of the frames.
    length: number of pairs.
    seed: random seed.
    textures: images, or a folder with them at any depth; by default the
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
    paths = textures.chosen(textures.images(self.textures), self.part)
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
    return textures.levels(self.paths[rng.integers(len(self.paths))])


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
      raise ValueError(f"objects {self.objects} is not a range in [0, 254]")
    if not 0 < self.zoom[0] <= self.zoom[1]:
      raise ValueError(f"zoom {self.zoom} is not a range above 0")
    if not 0 <= self.warp <= flow_layers.MAX_WARP:
      raise ValueError(
          f"warp {self.warp} is not in [0, {flow_layers.MAX_WARP}] pixels"
      )

  def layers(self, index: int) -> list[Layer]:
    """The layers of a pair: the background, and objects in front of it."""
    rng = self._rng(index)
    layers = [self._background(rng)]
    fewest, most = self.objects
    for _ in range(rng.integers(fewest, most + 1)):
      layers.append(self._object(rng))
    return layers

  def _pair(self, index: int) -> Pair:
    rng = self._rng(index, 1)  # The settings do not change the layers.
    blur, fog, noise = np.maximum(rng.uniform(-2, 1, 3), 0).tolist()
    pair = flow_layers.draw(
        self.layers(index), self.size, self.motion_blur * blur
    )
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
  """Pairs of a photograph and its image under a homography.

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
    corners = splines.corners(Box(0, 0, width, height))
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
    pixels = splines.grid(width, height).astype(np.float64)
    flow = cv2.perspectiveTransform(pixels, matrix) - pixels
    flow = flow.astype(np.float32)
    return {
        "frames": np.stack(frames),
        "flow": flow,
        "known": np.ones(self.size, bool),
        "visible": flow_layers.visible(
            flow, np.zeros([2, *self.size], np.uint8)
        ),
    }


def motorcycle(shrink: int = 1) -> Pair:
  """A stereo pair of a real scene, [500, 741].

  The flow is known where its disparity was measured.

  Args:
    shrink: how many pixels of a row and of a column become one; as its flow
      has the median of theirs if all are known.

  Raises:
    FileNotFoundError: if scikit-image, which has it, is not installed.

  Source: High-resolution stereo datasets with subpixel-accurate ground truth,
  Scharstein et al.
  """
  folder = textures.skimage_folder()
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
    index: index of the pair.
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
  with atomic.complete(path / "forward.flo") as partial:
    flow_files.write_flo(partial, pair["flow"], pair["known"])
  return path


def _placed(
    rng: np.random.Generator,
    levels: Sequence[np.ndarray],
    centre: np.ndarray,
    zoom: float,
    angle: float,
    slack: float,
) -> tuple[np.ndarray, np.ndarray]:
  """A texture of suitable size, with coordinates of the points of frame 1.

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
  points = [-(-n // flow_layers.SPACING) + 5 for n in size]
  return (strength * rng.uniform(-1, 1, [*points, 2])).astype(np.float32)


def _outline(
    rng: np.random.Generator, centre: np.ndarray, radius: float
) -> np.ndarray:
  """The outline of a random polygon with some round corners, [N, 2]."""
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
  (density,) = splines.spline(points[..., None], _FOG_SPACING, "smooth", box)
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
