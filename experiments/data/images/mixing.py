"""MixUp and CutMix.

Source: Zhang et al., 2017; Yun et al., 2019; as the pipeline published with
Perceiver IO does it.
"""

import dataclasses
import math

import cv2
import numpy as np

from experiments.data.pipeline import Example


@dataclasses.dataclass(frozen=True)
class Mix:
  """Mixes two examples: even rows by MixUp and odd ones by CutMix.

  As published, half of a batch is mixed in each way; there, these are its
  halves.
  """

  alpha: float = 0.2  # MixUp's share of the first image is Beta(alpha, alpha).
  mixup: bool = True
  cutmix: bool = True

  def __post_init__(self):
    if not (self.mixup or self.cutmix):
      raise ValueError(
          "mixup and cutmix are both off: set config.mix to {} instead"
      )

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    """Mixes two examples.

    Args:
      example: "pair", two examples with "image", float32 [Y, X, 3], and
        "label"; and "row", the number of what is made.
      rng: random generator.

    Returns:
      "image", float32 [Y, X, 3], "label" of the first, "mix_label" of the
      second, and "ratio", float32: how much of the image is the first.
    """
    pair = example["pair"]
    first, second = (one["image"] for one in pair)
    if self.mixup and not (self.cutmix and example["row"] % 2):
      ratio = np.float32(rng.beta(self.alpha, self.alpha))
      image = blended(first, second, ratio)
    else:
      height, width, _ = first.shape
      x, y = rng.integers(width), rng.integers(height)
      mask = np.zeros([height, width], np.uint8)
      mask[cutmix_box(height, width, int(x), int(y), rng.random())] = 1
      image = boxed(first, second, mask)
      ratio = np.float32(mask.mean())
    return {
        "image": image,
        "label": pair[0]["label"],
        "mix_label": pair[1]["label"],
        "ratio": ratio,
    }


def blended(
    first: np.ndarray, second: np.ndarray, ratio: np.float32
) -> np.ndarray:
  """A weighted mean of two images."""
  return cv2.addWeighted(first, float(ratio), second, float(1 - ratio), 0)


def boxed(
    first: np.ndarray, second: np.ndarray, mask: np.ndarray
) -> np.ndarray:
  """One image where a mask, uint8 [Y, X], is not 0, and another elsewhere."""
  return cv2.copyTo(first, mask, second.copy())


def cutmix_box(
    height: int, width: int, x: int, y: int, share: float
) -> tuple[slice, slice]:
  """The rows and columns in which an image is kept.

  Args:
    height: height of the image.
    width: width of the image.
    x: of the box's middle.
    y: of the box's middle.
    share: of the image that is to be outside of the box, if that were not cut
      off at the borders.
  """
  part = math.sqrt(1 - share)
  half_y, half_x = int(part * height) // 2, int(part * width) // 2
  return (
      slice(max(0, y - half_y), min(height, y + half_y)),
      slice(max(0, x - half_x), min(width, x + half_x)),
  )
