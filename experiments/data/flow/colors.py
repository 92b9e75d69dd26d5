"""The colours of optical flow."""

import numpy as np

from experiments.data.flow.files import UNKNOWN

# Steps from each of these colours to the next one.
_WHEEL = {
    (255, 0, 0): 15,
    (255, 255, 0): 6,
    (0, 255, 0): 4,
    (0, 255, 255): 11,
    (0, 0, 255): 13,
    (255, 0, 255): 6,
}
_TOO_LONG = 0.75  # How bright is what is longer than the longest.


def colors(flow: np.ndarray, max_length: float | None = None) -> np.ndarray:
  """An image of flow, with hue by direction and saturation by length.

  The hues are those of Middlebury's benchmark, with more steps where the eye
  tells more apart: to the right is red, down yellow, to the left blue.

  Args:
    flow: [Y, X, 2]; what is unknown, infinite or no number becomes black.
    max_length: of what has the fullest colour; the longest's by default. What
      is longer is darker.

  Returns:
    RGB, uint8 [Y, X, 3], white where nothing moves.

  Source: A Database and Evaluation Methodology for Optical Flow, Baker et al.
  """
  with np.errstate(invalid="ignore"):  # Older NumPy warns about NaN.
    known = np.all(np.abs(flow) <= UNKNOWN, axis=-1)
  x, y = np.where(known, np.moveaxis(flow, -1, 0), 0.0)
  length = np.hypot(x, y)
  if max_length is None:
    max_length = max(length.max(), 1e-6)
  saturation = (length / max_length)[..., None]
  full = _wheel(np.arctan2(y, x) / (2 * np.pi))
  rgb = 255 - saturation * (255 - full)
  rgb = np.where(saturation > 1, _TOO_LONG * full, rgb) * known[..., None]
  return np.round(rgb).astype(np.uint8)


def _wheel(turns: np.ndarray) -> np.ndarray:
  """The full colours of directions, [..., 3]."""
  ends = np.cumsum([0, *_WHEEL.values()])
  # The last step, back to red, is not of the wheel.
  at = turns % 1.0 * (ends[-1] - 1)
  corners = [*_WHEEL, next(iter(_WHEEL))]
  return np.stack(
      [np.interp(at, ends, channel) for channel in np.array(corners).T], -1
  )
