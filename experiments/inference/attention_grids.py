"""Attention over images, frames and sound, and between latents.

Axes: Q queries, of which each has a map; T, Y, X the grid that they read.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import math

from matplotlib.figure import Figure
import numpy as np

from experiments.engine import figures
from experiments.inference.attention_colors import DPI
from experiments.inference.attention_colors import Look
from experiments.inference.attention_colors import MARK
from experiments.inference.attention_colors import Mark
from experiments.inference.attention_colors import number


def tiled(frames: np.ndarray, columns: int) -> np.ndarray:
  """Frames [T, Y, X, 3] as one image, row by row, with white between them."""
  height, width = frames.shape[1:3]
  gap = _gap(frames.shape)
  rows = -(-len(frames) // columns)
  picture = np.ones(
      [rows * (height + gap) - gap, columns * (width + gap) - gap, 3]
  )
  for i, frame in enumerate(frames):
    y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
    picture[y : y + height, x : x + width] = frame
  return picture


def _gap(shape) -> int:
  return 0 if shape[0] == 1 else max(1, shape[2] // 40)


@figures.styled()
def grid_figure(
    title: str,
    frames: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[str],
    look: Look,
    marks: Sequence[Mark | None] | None = None,
) -> Figure:
  """Maps over an image or a video, and beside them the input.

  Args:
    title: title of the figure.
    frames: the input, RGB in [0, 1], [T, Y, X, 3]; an image has T=1.
    maps: [Q, T', Y', X'], of any resolution.
    labels: labels of each map.
    look: its colours.
    marks: marks of each map, a place on it.
  """
  across = min(maps.shape[1], 4)
  shape = tiled(np.zeros([*maps.shape[1:], 3]), across).shape
  # No element may get lost between the pixels of the figure.
  width = max(2.4 if across == 1 else 5.0, 1.4 * shape[1] / DPI)
  height = width * shape[0] / shape[1]
  total = len(maps) + 1
  rows, columns = _rows_and_columns(total, 1.6 * height / width)
  figure = Figure(
      figsize=(
          max(columns * width + 1.2, 6.5),
          max(rows * (height + 0.5) + 0.6, 3.4),
      ),
      dpi=DPI,
      layout="compressed",
  )
  figure.suptitle(title)
  axes = figure.subplots(rows, columns, squeeze=False)
  for ax in axes.flat:
    ax.axis("off")
  picture = tiled(frames, min(len(frames), 4))
  axes.flat[0].imshow(picture, interpolation="nearest")
  axes.flat[0].set_title("input", fontsize=9)
  limits = look.limits(maps)
  for i, ax in enumerate(axes.flat[1:total]):
    picture = tiled(look.colored(maps[i], limits[i]), across)
    ax.imshow(picture, interpolation="nearest")
    top = f"{look.what} up to {number(limits[i][1])}"
    if look.is_scores:
      top = f"scores {number(limits[i][0])} to {number(limits[i][1])}"
    ax.set_title(f"{labels[i]}\n{top}", fontsize=9)
    mark = marks[i] if marks else None
    if mark is not None:
      x, y = _place(mark, maps.shape[1:], across)
      ax.plot(x, y, "+", color=MARK, markersize=12, markeredgewidth=2)
  look.colorbar(figure, axes, limits[0])
  return figure


def _rows_and_columns(count: int, aspect: float) -> tuple[int, int]:
  """Rows and columns of a grid with an aspect ratio and few empty cells."""
  ideal = math.sqrt(count * aspect)
  cost = lambda n: (-count % n) / count + abs(math.log(n / ideal))
  columns = min(range(1, count + 1), key=cost)
  return -(-count // columns), columns


def _place(mark: Mark, shape, columns: int) -> tuple[float, float]:
  """Where on a tiled map a mark is, x and y."""
  (frame, y, x), (_, height, width) = mark, shape
  gap = _gap(shape)
  top, left = divmod(frame, columns)
  return (
      left * (width + gap) + x * width - 0.5,
      top * (height + gap) + y * height - 0.5,
  )


@figures.styled()
def curve_figure(
    title: str,
    wave: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[str],
    look: Look,
    seconds: float,
    marks: Sequence[float | None] | None = None,
) -> Figure:
  """Maps over a sound, as curves under it.

  Args:
    title: title of the figure.
    wave: the sound, [S].
    maps: [Q, M]; each element is as long as any other.
    labels: labels of each map.
    look: whether all curves have the same scale.
    seconds: how long it takes.
    marks: marks of each map, a time, as a part of the whole.
  """
  figure = Figure(
      figsize=(10, 1.2 * (len(maps) + 1) + 1), dpi=DPI, layout="constrained"
  )
  figure.suptitle(title)
  first, *axes = figure.subplots(
      len(maps) + 1, 1, sharex=True, squeeze=False
  ).flat
  first.plot(
      np.linspace(0, seconds, len(wave)), wave, color="gray", linewidth=0.6
  )
  first.set_title("input: the sound", fontsize=9, loc="left")
  edges = np.linspace(0, seconds, maps.shape[1] + 1)
  marks = marks or [None] * len(maps)
  for ax, values, label, limits, mark in zip(
      axes, maps, labels, look.limits(maps), marks, strict=True
  ):
    known = np.where(np.isfinite(values), values, np.nan)
    ax.stairs(known, edges, baseline=limits[0], fill=True, color="#c0304f")
    if mark is not None:
      ax.axvline(mark * seconds, color=MARK)
    margin = 0.05 * (limits[1] - limits[0])
    ax.set_ylim(limits[0], limits[1] + margin)
    ax.set_title(label, fontsize=9, loc="left")
    ax.set_ylabel(look.what)
  axes[-1].set_xlabel("seconds")
  axes[-1].set_xlim(0, seconds)
  return figure


@figures.styled()
def matrix_figure(
    title: str,
    matrices: np.ndarray,
    names: Sequence[str],
    look: Look,
    reads: str,
    is_read: str,
    labels: Sequence[str],
) -> Figure:
  """Attention matrices.

  Args:
    title: title of the figure.
    matrices: [P, Q, M].
    names: names of each matrix.
    look: its colours.
    reads: what the rows are.
    is_read: what the columns are.
    labels: labels of each row.
  """
  count, num_rows, num_columns = matrices.shape
  step = -(-num_rows // 20)
  # No element may get lost between the pixels of the figure.
  width = max(4.5, num_columns * 1.4 / DPI)
  height = max(1.0, 0.28 * num_rows)
  if num_rows > 20:
    height = width if num_rows == num_columns else num_rows * 1.4 / DPI
    height = max(height, 4.0)
  rows, columns = _rows_and_columns(count, 1.5 * height / width)
  figure = Figure(
      figsize=(
          max(columns * width + 1.5, 7.5),
          max(rows * (height + 0.9) + 0.8, 3.2),
      ),
      dpi=DPI,
      layout="constrained",
  )
  figure.suptitle(title)
  axes = figure.subplots(rows, columns, squeeze=False)
  limits = look.limits(matrices)
  for i, ax in enumerate(axes.flat):
    if i >= count:
      ax.axis("off")
      continue
    picture = look.colored(matrices[i], limits[i])
    ax.imshow(picture, interpolation="nearest", aspect="auto")
    span = f"{number(limits[i][0])} to {number(limits[i][1])}"
    ax.set_title(f"{names[i]}: {look.what}s {span}", fontsize=9)
    ax.set_xlabel(is_read)
    ax.set_ylabel(reads)
    ax.set_yticks(range(0, num_rows, step), labels[::step], fontsize=8)
    ax.xaxis.get_major_locator().set_params(integer=True)
  look.colorbar(figure, axes, limits[0])
  return figure


def shares(parts: Mapping[str, np.ndarray], look: Look) -> list[str]:
  """The fraction of each map on each part, [Q, ...].

  Of scores, there is no such sum: their largest is given.
  """
  if len(parts) == 1:
    return [""] * len(next(iter(parts.values())))
  columns = []
  for name, values in parts.items():
    flat = values.reshape(len(values), -1)
    if look.is_scores:
      columns.append([f"{name} ≤ {number(v)}" for v in flat.max(axis=1)])
    else:
      columns.append([f"{name} {100 * v:.1f} %" for v in flat.sum(axis=1)])
  return [", ".join(row) for row in zip(*columns, strict=True)]


def split(
    maps: np.ndarray, layout: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
  """Splits maps [..., M] into the grids of each part, [..., *dims]."""
  ends = itertools.accumulate(math.prod(dims) for dims in layout.values())
  arrays = np.split(maps, list(ends)[:-1], axis=-1)
  return {
      name: array.reshape(*maps.shape[:-1], *dims)
      for (name, dims), array in zip(layout.items(), arrays, strict=True)
  }
