"""Colors of attention maps."""

import dataclasses

import matplotlib
from matplotlib import cm
from matplotlib import colors
from matplotlib.figure import Figure
import numpy as np

MISSING = "#bbbbbb"


MARK = "#00a0ff"  # Where the element is that reads.


DPI = 100


Mark = tuple[int, float, float]  # A frame, and y and x as parts of its size.


@dataclasses.dataclass(frozen=True)
class Look:
  """The mapping from numbers to colours."""

  is_scores: bool = False  # Before the softmax: of any sign, some missing.
  is_shared: bool = False  # One scale for all maps; else each has its own.
  # Of text, which is black: light where nothing is read.
  is_light: bool = False

  @property
  def what(self) -> str:
    """The name of the numbers."""
    return "score" if self.is_scores else "weight"

  @property
  def scale_label(self) -> str:
    """The label of the colour bar."""
    if self.is_shared:
      return f"attention {self.what}"
    if self.is_scores:
      return "between each map's least and largest score"
    return "part of each map's largest weight"

  @property
  def colormap(self) -> colors.Colormap:
    """From little to much; without a number, gray."""
    name = "Reds" if self.is_light else "magma"
    return matplotlib.colormaps[name].with_extremes(bad=MISSING)

  def limits(self, maps: np.ndarray) -> list[tuple[float, float]]:
    """The limits of the colour scale of each map [Q, ...]."""
    if self.is_shared:
      return [self._limits(maps)] * len(maps)
    return [self._limits(one) for one in maps]

  def _limits(self, values):
    known = values[np.isfinite(values)]
    if not known.size:
      return 0.0, 1.0
    low = float(known.min()) if self.is_scores else 0.0
    high = float(known.max())
    return low, high if high > low else low + 1.0

  def norm(self, low: float, high: float) -> colors.Normalize:
    """From numbers to [0, 1]."""
    if self.is_scores or self.is_light:
      return colors.Normalize(low, high)
    # Some pixels are read far more than others; the root shows both.
    return colors.PowerNorm(0.5, low, high)

  def colored(
      self, values: np.ndarray, limits: tuple[float, float]
  ) -> np.ndarray:
    """RGB in [0, 1], [..., 3]."""
    norm = self.norm(*limits)
    known = np.ma.masked_invalid(values)
    return self.colormap(norm(known))[..., :3]

  def colorbar(self, figure: Figure, axes, limits) -> None:
    """Draws the scale beside the axes."""
    low, high = limits if self.is_shared else (0.0, 1.0)
    scale = cm.ScalarMappable(self.norm(low, high), self.colormap)
    height = figure.get_figheight()
    shrink = min(0.8, 6.0 / height)
    bar = figure.colorbar(scale, ax=axes, shrink=shrink, aspect=25)
    bar.set_label(self.scale_label, fontsize=8)


def number(value: float) -> str:
  """Three digits."""
  return f"{value:.3g}"
