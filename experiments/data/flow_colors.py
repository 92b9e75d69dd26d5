"""The colours of optical flow."""

import cv2
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
