"""Training examples of optical flow: augmentation, reversal, curriculum.

A pair has "frames", uint8 [2, Y, X, 3] in red, green, blue; "flow" from the
first to the second, float32 [Y, X, 2] in pixels, x first and rightwards, y
downwards; and "known", bool [Y, X]. It may have "visible", bool [Y, X]: what of
the first frame is seen in the second as well.

Source: Perceiver IO, appendix H.
"""

import dataclasses
import sys
from typing import Any

import cv2
import numpy as np

from experiments.data.pipeline import Example

_KEYS = ("frames", "flow", "known", "visible")
# A share of known pixels that is all of them, but for rounding.
_WHOLE = 0.9999


@dataclasses.dataclass(frozen=True)
class Ranges:
  """Ranges of random numbers; a single number a means -a to a.

  Source: AutoFlow, appendix; RAFT, which has neither rotation, shear, gamma nor
  a second frame that moves by itself.
  """

  # Both frames.
  scale: tuple[float, float] = (-0.2, 0.6)  # Powers of two: a magnification.
  stretch: float = 0.2  # Powers of two, of x and of y.
  rotation: float = 17.0  # degrees
  shear: float = 0.05  # Of x, per pixel of y.
  flip_x: float = 0.5  # How probable it is that left becomes right,
  flip_y: float = 0.1  # and up down.
  # The second frame, after that.
  second_scale: float = 0.04  # Powers of two.
  second_rotation: float = 2.0  # degrees
  second_translation: float = 0.03  # Of the crop's height and width.
  # Colours.
  brightness: float = 0.4  # Of a factor around 1; so the next two.
  contrast: float = 0.4
  saturation: float = 0.4
  hue: float = 0.16  # turns
  gamma: float = 0.3  # Powers of two.
  different: float = 0.2  # How probable it is that each frame has its own.
  noise: float = 0.0  # The largest standard deviation, in levels of 0 to 255.
  # Rectangles of the second frame that become its mean colour.
  erased: float = 0.5  # How probable they are,
  erased_count: tuple[int, int] = (1, 3)
  erased_size: tuple[int, int] = (50, 100)  # pixels, each side


@dataclasses.dataclass(frozen=True)
class Augment:
  """A step: augments a pair and computes its exact flow.

  Both frames are cut from one parallelogram each, at a random place, and their
  colours change. The parallelograms lie inside the frames: what would not fit
  is magnified until it does.
  """

  size: tuple[int, int]  # Y, X of what comes out, pixels.
  ranges: Ranges = Ranges()
  # Whether flow is known at so few places that it is taken from the nearest
  # pixel; else it is interpolated, and known where all four around it are.
  sparse: bool = False

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    """Augments a pair with its "severity".

    Args:
      example: a pair, and "severity", 0 to 1, by which ranges and probabilities
        are multiplied; 0 leaves a crop; 1 if there is none.
      rng: random generator.

    Returns:
      "frames", "flow" and "known" of this size; the flow is zero where it is
      not known. "visible" if it was there: without what now moves out of the
      second frame, or to where that is erased.

    Raises:
      ValueError: if the pair is smaller than the size.
    """
    pair = {key: example[key] for key in _KEYS if key in example}
    room, size = pair["known"].shape, self.size
    if room[0] < size[0] or room[1] < size[1]:
      raise ValueError(
          f"a pair of {room[0]} x {room[1]} pixels is smaller than the crop of"
          f" {size[0]} x {size[1]}"
      )
    erased = np.zeros(size, bool)
    severity = float(example.get("severity", 1.0))
    if severity == 0.0:
      pair = _cropped(pair, rng, size)
    else:
      ranges = _scaled(self.ranges, severity)
      maps = _maps(rng, ranges, room, size)
      pair = _resampled(pair, *maps, size, self.sparse)
      pair["frames"] = _recoloured(pair["frames"], rng, ranges)
      erased = _erase(pair["frames"][1], rng, ranges)
    if "visible" in pair:
      index, ends = _ends(pair)
      pair["visible"] = pair["visible"] & ends & ~erased.ravel()[index]
    return pair


def reversed_pair(example: Example) -> Example:
  """The pair from its second frame to its first.

  Args:
    example: a pair.

  Returns:
    the example with its frames swapped. A pixel's flow is the mean of minus all
    flows that end at it, known where there is one, else zero. "visible", if it
    was there, is where what ends was visible.
  """
  known = example["known"]
  index, ends = _ends(example)
  at, flow = index[ends], example["flow"][ends]
  count = np.bincount(at, minlength=known.size)
  back = np.empty([known.size, 2], np.float32)
  for i in range(2):
    total = np.bincount(at, flow[:, i], minlength=known.size)
    back[:, i] = -total / np.maximum(count, 1)
  pair = {
      **example,
      "frames": example["frames"][::-1],
      "flow": back.reshape(*known.shape, 2),
      "known": (count > 0).reshape(known.shape),
  }
  if "visible" in example:
    at = index[ends & example["visible"]]
    seen = np.bincount(at, minlength=known.size) > 0
    pair["visible"] = seen.reshape(known.shape)
  return pair


@dataclasses.dataclass(frozen=True)
class Curriculum:
  """Endless training examples by index: pairs with their severity.

  First every pair comes twice, forward and then reversed, with "severity" 0;
  then once, with a severity that grows linearly and stays 1.
  """

  pairs: Any  # By index, without end: a shuffled and repeated MapDataset.
  unaugmented_examples: int  # Of severity 0; without, it does not train well.
  ramp_examples: int  # From `start` to 1.
  start: float = 0.0

  def __post_init__(self):
    if not 0 <= self.start <= 1:
      raise ValueError(f"start {self.start} is not in [0, 1]")
    if min(self.unaugmented_examples, self.ramp_examples) < 0:
      raise ValueError(
          f"unaugmented_examples {self.unaugmented_examples} and ramp_examples"
          f" {self.ramp_examples} must not be negative"
      )

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, index: int) -> dict[str, Any]:
    later = index - self.unaugmented_examples
    if later < 0:
      pair = self.pairs[index // 2]
      pair = reversed_pair(pair) if index % 2 else pair
      return {**pair, "severity": np.float32(0)}
    pair = self.pairs[(self.unaugmented_examples + 1) // 2 + later]
    share = 1.0
    if later < self.ramp_examples:
      share = later / self.ramp_examples
    severity = self.start + (1 - self.start) * share
    return {**pair, "severity": np.float32(severity)}


def _ends(pair: Example) -> tuple[np.ndarray, np.ndarray]:
  """The end pixel of each flow in the second frame, and its validity.

  Returns:
    y · width + x, or 0 where it ends outside or is not known; and [Y, X].
  """
  height, width = pair["known"].shape
  flow = np.where(pair["known"][..., None], pair["flow"], 0)
  x = np.rint(flow[..., 0] + np.arange(width, dtype=np.float32))
  y = np.rint(flow[..., 1] + np.arange(height, dtype=np.float32)[:, None])
  ends = pair["known"] & (0 <= x) & (x < width) & (0 <= y) & (y < height)
  return np.where(ends, y * width + x, 0).astype(np.intp), ends


def _cropped(
    pair: Example, rng: np.random.Generator, size: tuple[int, int]
) -> dict[str, np.ndarray]:
  top, left = rng.integers(np.subtract(pair["known"].shape, size) + 1)
  part = slice(top, top + size[0]), slice(left, left + size[1])
  cropped = {key: pair[key][part] for key in pair if key != "frames"}
  known = cropped["known"][..., None]
  return {
      **cropped,
      "frames": pair["frames"][:, *part],
      "flow": np.where(known, cropped["flow"], np.float32(0)),
  }


def _scaled(ranges: Ranges, severity: float) -> Ranges:
  """The ranges scaled by severity, except for those of rectangles."""
  fixed = ("erased_count", "erased_size")
  scaled = {
      key: np.multiply(value, severity)
      for key, value in vars(ranges).items()
      if key not in fixed
  }
  return dataclasses.replace(ranges, **scaled)


def _maps(
    rng: np.random.Generator,
    ranges: Ranges,
    room: tuple[int, int],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
  """Maps from output coordinates (x, y, 1) to each frame, [2, 3]."""
  around = lambda most: rng.uniform(-most, most)
  zoom = rng.uniform(*ranges.scale)
  stretch = around(ranges.stretch), around(ranges.stretch)
  flips = np.where(rng.random(2) < (ranges.flip_x, ranges.flip_y), -1, 1)
  skew = np.array([[1, around(ranges.shear)], [0, 1]])
  turned = _rotation(around(ranges.rotation)) @ skew
  linear = turned * flips * np.exp2(-zoom - np.array(stretch))
  second = _rotation(around(ranges.second_rotation))
  second *= np.exp2(-around(ranges.second_scale))
  most = ranges.second_translation * np.array(size[::-1])
  shift = rng.uniform(-most, most)

  # Relative to the middle of the crop, until the maps are put together.
  half = (np.array(size[::-1]) - 1) / 2
  corners = half * [[-1, -1], [-1, 1], [1, -1], [1, 1]]
  corners = np.concatenate([corners, corners @ second.T + shift])
  places = corners @ linear.T
  last = np.array(room[::-1]) - 1
  fit = min(1.0, (last / np.ptp(places, axis=0)).min())
  linear, places = fit * linear, fit * places
  middle = -places.min(0) + rng.random(2) * (last - np.ptp(places, axis=0))

  both = linear, linear @ second
  starts = middle, middle + linear @ shift
  first, second = (
      np.column_stack([a, b - a @ half])
      for a, b in zip(both, starts, strict=True)
  )
  return first, second


def _rotation(degrees: float) -> np.ndarray:
  sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
  return np.array([[cosine, -sine], [sine, cosine]])


def _resampled(
    pair: Example,
    first: np.ndarray,
    second: np.ndarray,
    size: tuple[int, int],
    sparse: bool,
) -> dict[str, np.ndarray]:
  """A pair resampled by the maps M1 and M2 of its frames.

  Its flow is M2^-1(M1 p + flow(M1 p)) - p.
  """
  frames = [
      _warped(frame, m, size)
      for frame, m in zip(pair["frames"], (first, second), strict=True)
  ]
  known = pair["known"]
  # One array: OpenCV warps three channels more exactly than two.
  layers = np.dstack([pair["flow"], known]).astype(np.float32)
  layers[~known] = 0  # An unknown flow may be infinite.
  how = cv2.INTER_NEAREST if sparse else cv2.INTER_LINEAR
  layers = _warped(layers, first, size, how)
  known = layers[..., 2] > _WHOLE

  back = cv2.invertAffineTransform(second)
  flow = cv2.transform(layers, np.pad(back[:, :2], ((0, 0), (0, 1))))
  still = back[:, :2] @ first
  still[:, 2] += back[:, 2]
  still = (still - np.eye(2, 3)).astype(np.float32)  # Of pixels without flow.
  height, width = size
  flow += np.arange(width, dtype=np.float32)[:, None] * still[:, 0]
  y = np.arange(height, dtype=np.float32)[:, None, None]
  flow += y * still[:, 1] + still[:, 2]
  flow[~known] = 0
  resampled = {"frames": np.stack(frames), "flow": flow, "known": known}
  if "visible" in pair:
    visible = pair["visible"].astype(np.float32)
    resampled["visible"] = _warped(visible, first, size, how) > _WHOLE
  return resampled


def _warped(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    how: int = cv2.INTER_LINEAR,
) -> np.ndarray:
  """A warped image, with zeros outside of the original."""
  flags = how | cv2.WARP_INVERSE_MAP
  return cv2.warpAffine(image, matrix, size[::-1], flags=flags)


def _recoloured(
    frames: np.ndarray, rng: np.random.Generator, ranges: Ranges
) -> np.ndarray:
  if rng.random() < ranges.different:
    frames = np.stack(
        [_colours_changed(frame, rng, ranges) for frame in frames]
    )
  else:
    # One above the other, they are one image.
    both = frames.reshape(-1, *frames.shape[2:])
    frames = _colours_changed(both, rng, ranges).reshape(frames.shape)
  deviation = rng.uniform(0, ranges.noise)
  if deviation:
    noise = rng.standard_normal(frames.shape, np.float32) * deviation
    frames = np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)
  return frames


def _colours_changed(
    image: np.ndarray, rng: np.random.Generator, ranges: Ranges
) -> np.ndarray:
  brightness, contrast, saturation = (
      1 + rng.uniform(-most, most)
      for most in (ranges.brightness, ranges.contrast, ranges.saturation)
  )
  hue = rng.uniform(-ranges.hue, ranges.hue)
  gamma = np.exp2(rng.uniform(-ranges.gamma, ranges.gamma))
  levels = np.arange(256)
  mean = np.mean(cv2.mean(image)[:3])
  light = brightness * (mean + contrast * (levels - mean))
  image = cv2.LUT(image, _levels(255 * (np.clip(light / 255, 0, 1) ** gamma)))
  if not (ranges.hue or ranges.saturation):
    return image  # As it was: the way there and back rounds.
  hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
  table = [np.rint(levels + 256 * hue) % 256, saturation * levels, levels]
  hsv = cv2.LUT(hsv, _levels(np.stack(table, axis=-1)[None]))
  return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _levels(values: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _erase(
    frame: np.ndarray, rng: np.random.Generator, ranges: Ranges
) -> np.ndarray:
  """Paints rectangles into the frame, and returns their mask."""
  erased = np.zeros(frame.shape[:2], bool)
  if rng.random() < ranges.erased:
    for _ in range(rng.integers(*ranges.erased_count, endpoint=True)):
      y, x = rng.integers(erased.shape)
      height, width = rng.integers(*ranges.erased_size, size=2, endpoint=True)
      erased[y : y + height, x : x + width] = True
    frame[erased] = np.rint(cv2.mean(frame)[:3])
  return erased
