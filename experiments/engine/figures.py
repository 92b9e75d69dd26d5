"""Pictures of batches for people."""

from collections.abc import Callable
import io
from typing import Any

import matplotlib.figure
import numpy as np
from PIL import Image


def sixteen(
    count: int,
    show: Callable[[Any, int], None],
    title: str = "",
    size: tuple[float, float] = (10.0, 10.0),
) -> np.ndarray:
  """The first 16 of something, each in a plot of its own.

  Args:
    count: how many there are; further plots stay empty.
    show: draws the i-th into a plot of matplotlib's.
    title: of them all.
    size: width and height, in hundreds of pixels.

  Returns:
    RGB, uint8 [Y, X, 3].
  """
  figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
  figure.suptitle(title)
  for i, ax in enumerate(figure.subplots(4, 4).flat):
    ax.axis("off")
    if i < count:
      show(ax, i)
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=100)
  return np.asarray(Image.open(file).convert("RGB"))
