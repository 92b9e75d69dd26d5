"""Pictures of batches for people."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import io
from typing import Any

import matplotlib.figure
import numpy as np
from PIL import Image

MOST_CLASSES = 20  # Of a matrix that can be read.


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
  return _drawn(figure)


def confusion(
    measured: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
  """What a classifier says of each class, as a matrix: {"confusion": picture}.

  Args:
    measured: of all examples, "label" and "predicted", class numbers; rows
      without a label have a negative one.
    names: of the classes, by number. Of more than `MOST_CLASSES`, those are
      shown of which most examples are taken for another one.
  """
  label, said = measured["label"], measured["predicted"]
  is_known = label >= 0
  counts = np.zeros([len(names)] * 2, np.int64)
  np.add.at(counts, (label[is_known], said[is_known]), 1)
  wrong = counts.sum(1) - counts.diagonal()
  shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
  totals = np.maximum(counts.sum(1, keepdims=True), 1)
  shares = (counts / totals)[np.ix_(shown, shown)]
  side = 3.0 + 0.45 * len(shown)
  figure = matplotlib.figure.Figure(figsize=(side, side), layout="constrained")
  ax = figure.subplots()
  image = ax.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
  for (i, j), share in np.ndenumerate(shares):
    if counts[shown[i], shown[j]]:
      color = "white" if share > 0.5 else "black"
      text = f"{counts[shown[i], shown[j]]}"
      ax.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
  ticks = [names[int(k)] for k in shown]
  ax.set_xticks(range(len(shown)), ticks, rotation=90)
  ax.set_yticks(range(len(shown)), ticks)
  ax.set_xlabel("prediction")
  ax.set_ylabel("label")
  most = "" if len(shown) == len(names) else ", the most confused classes"
  ax.set_title(f"examples of each class by prediction{most}", fontsize=10)
  bar = figure.colorbar(image, shrink=0.6)
  bar.set_label("% of the class")
  return {"confusion": _drawn(figure)}


def names_of(names: Sequence[str], count: int) -> list[str]:
  """The names of so many classes; where none are known, numbers."""
  return list(names) or [str(i) for i in range(count)]


def _drawn(figure: matplotlib.figure.Figure) -> np.ndarray:
  """RGB, uint8 [Y, X, 3]."""
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=100)
  return np.asarray(Image.open(file).convert("RGB"))
