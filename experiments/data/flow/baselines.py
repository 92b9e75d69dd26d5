"""Baselines of optical flow without learning."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from experiments.data.pipeline import Example


def zero(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """The zero-flow baseline."""
  del second
  return np.zeros([*first.shape[:2], 2], np.float32)


def farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Farnebäck's polynomial expansion, with OpenCV's usual settings."""
  nothing: Any = None  # To start from; the type stubs want an array.
  return cv2.calcOpticalFlowFarneback(
      _grey(first),
      _grey(second),
      nothing,
      pyr_scale=0.5,
      levels=5,
      winsize=15,
      iterations=3,
      poly_n=5,
      poly_sigma=1.2,
      flags=0,
  )


def dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Dense inverse search, at OpenCV's medium preset."""
  search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
  nothing: Any = None
  return search.calc(_grey(first), _grey(second), nothing)


def _grey(frame: np.ndarray) -> np.ndarray:
  return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


# RGB frames in uint8, [Y, X, 3], to the flow from the first, [Y, X, 2].
BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    method.__name__: method for method in (zero, farneback, dis)
}


def with_flows(example: Example, names: Sequence[str]) -> Example:
  """A step: adds the flow of each baseline under its name."""
  found = {name: BASELINES[name](*example["frames"]) for name in names}
  return {**example, **found}
