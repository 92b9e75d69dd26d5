"""Figures of batches and of predictions, and the style of every figure."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import io
import pathlib
from typing import Any, NamedTuple
import warnings

from matplotlib import cm
from matplotlib import colors
from matplotlib import style
import matplotlib.figure
import numpy as np
from PIL import Image

MOST_CLASSES = 20  # Of a matrix that can be read.
STYLE = pathlib.Path(__file__).with_suffix(".mplstyle")
RIGHT, WRONG = "black", "#c62828"  # Titles of predictions.

# A context, and a decorator of functions that draw.
styled = functools.partial(style.context, str(STYLE))


class Scale(NamedTuple):
  """A colour bar."""

  label: str  # With the unit.
  norm: colors.Normalize
  colormap: str = "viridis"
  extend: str = "neither"  # "max": larger numbers have the last colour.

  def bar(self, figure: Any, axes: Any, **how: Any) -> None:
    """Draws it beside the axes."""
    scale = cm.ScalarMappable(self.norm, self.colormap)
    figure.colorbar(scale, ax=axes, label=self.label, extend=self.extend, **how)


@styled()
def sixteen(
    count: int,
    show: Callable[[Any, int], None],
    title: str = "",
    size: tuple[float, float] = (10.0, 10.0),
    scale: Scale | None = None,
) -> np.ndarray:
  """The first 16 of something, each in a plot of its own.

  Args:
    count: number of plots; further ones stay empty.
    show: draws the i-th into matplotlib's axes.
    title: of them all.
    size: width and height, in hundreds of pixels.
    scale: scale of their colours, if these are numbers.

  Returns:
    RGB, uint8 [Y, X, 3].
  """
  figure = matplotlib.figure.Figure(figsize=size)
  figure.suptitle(title)
  axes = figure.subplots(4, 4)
  for i, ax in enumerate(axes.flat):
    ax.axis("off")
    if i < count:
      show(ax, i)
  if scale is not None:
    # With less room for the bar, its label would leave the figure.
    room = dict(shrink=0.5, aspect=50, fraction=0.05, pad=0.02)
    scale.bar(figure, axes, location="bottom", **room)
  return drawn(figure)


def answer(
    ax: Any,
    label: str,
    prediction: str,
    probability: float,
    is_right: bool,
    width: int = 34,
) -> None:
  """Titles a plot "label → prediction 87 %"; a wrong prediction is red.

  Args:
    ax: the plot.
    label: the name of the class, or of several.
    prediction: the name of the likeliest class.
    probability: that the model gives it, from 0 to 1.
    is_right: whether it is the label.
    width: the most characters of a line; longer names are cut.
  """
  after = f"→ {prediction} {probability:.0%}"
  text = f"{label} {after}"
  if len(text) > width:
    said = _short(prediction, width - 8)
    text = f"{_short(label, width)}\n→ {said} {probability:.0%}"
  ax.set_title(text, color=RIGHT if is_right else WRONG)


def confusion(
    measured: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
  """A figure of the confusion matrix: {"confusion": `matrix`}.

  Args:
    measured: of all examples, "label" and "predicted", class numbers; rows
      without a label have a negative one.
    names: names of the classes, by number.
  """
  return {"confusion": matrix(measured["label"], measured["predicted"], names)}


@styled()
def matrix(
    label: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    title: str = "",
) -> np.ndarray:
  """A confusion matrix: how many examples of each class have each prediction.

  Args:
    label: class numbers of all examples; negative ones are left out.
    predicted: class numbers.
    names: of the classes, by number. Of more than `MOST_CLASSES`, those are
      shown of which most examples are taken for another one.
    title: stands before the accuracy.

  Returns:
    RGB, uint8 [Y, X, 3].
  """
  is_known = label >= 0
  counts = np.zeros([len(names)] * 2, np.int64)
  np.add.at(counts, (label[is_known], predicted[is_known]), 1)
  wrong = counts.sum(1) - counts.diagonal()
  shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
  totals = np.maximum(counts.sum(1, keepdims=True), 1)
  shares = (counts / totals)[np.ix_(shown, shown)]
  side = 3.0 + 0.45 * len(shown)
  figure = matplotlib.figure.Figure(figsize=(side + 1.0, side))
  ax = figure.subplots()
  scale = Scale("examples of the class (%)", colors.Normalize(0, 100), "Blues")
  ax.imshow(100 * shares, norm=scale.norm, cmap=scale.colormap)
  for (i, j), share in np.ndenumerate(shares):
    if counts[shown[i], shown[j]]:
      color = "white" if share > 0.5 else "black"
      text = f"{counts[shown[i], shown[j]]}"
      ax.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
  ticks = [_short(names[int(k)], 24) for k in shown]
  turn = 90 if len(shown) > 10 or max(map(len, ticks)) > 5 else 0
  ax.set_xticks(range(len(shown)), ticks, rotation=turn)
  ax.set_yticks(range(len(shown)), ticks)
  ax.set_xlabel("prediction")
  ax.set_ylabel("label")
  total = counts.sum()
  accuracy = 100 * counts.diagonal().sum() / max(total, 1)
  lines = [f"accuracy {accuracy:.1f} % of {total:,} examples"]
  if title:
    lines[0] = f"{title}: {lines[0]}"
  if len(shown) < len(names):
    lines.append(f"the {len(shown)} of {len(names)} classes with most errors")
  ax.set_title("\n".join(lines))
  scale.bar(figure, ax, shrink=0.7)
  return drawn(figure)


def names_of(names: Sequence[str], count: int) -> list[str]:
  """The names of classes, or numbers if there are none."""
  return list(names) or [str(i) for i in range(count)]


def _short(text: str, width: int) -> str:
  return text if len(text) <= width else text[: width - 1] + "…"


def drawn(figure: matplotlib.figure.Figure) -> np.ndarray:
  """A figure as RGB, uint8 [Y, X, 3]."""
  file = io.BytesIO()
  with warnings.catch_warnings():
    # Texts and names of classes may have letters that the font lacks.
    warnings.filterwarnings("ignore", "Glyph .* missing")
    figure.savefig(file, format="png")
  return np.asarray(Image.open(file).convert("RGB"))
