"""Attention over texts, as figures and as HTML."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html
import unicodedata

from matplotlib import cm
from matplotlib import collections
from matplotlib import colors
from matplotlib import font_manager
from matplotlib import ft2font
from matplotlib import patches
from matplotlib.figure import Figure
import numpy as np

from experiments.data.text import tokenizers
from experiments.inference.attention_colors import DPI
from experiments.inference.attention_colors import Look
from experiments.inference.attention_colors import MARK
from experiments.inference.attention_colors import number


@dataclasses.dataclass(frozen=True)
class Piece:
  """One displayed character, and its ids."""

  shown: str
  start: int
  stop: int


def pieces(ids: np.ndarray) -> list[Piece]:
  """The characters and special ids of a text; invalid bytes stay separate."""
  found, i = [], 0
  while i < len(ids):
    shown, length = _character(ids[i : i + 4])
    found.append(Piece(shown, i, i + length))
    i += length
  return found


def _character(ids) -> tuple[str, int]:
  """The first character of some ids, and how many it takes."""
  if ids[0] < tokenizers.NUM_SPECIAL:
    return tokenizers.SPECIAL[ids[0]], 1
  for length in range(1, len(ids) + 1):
    values = ids[:length] - tokenizers.NUM_SPECIAL
    try:
      character = bytes(values.tolist()).decode("utf-8")
    except ValueError:  # Cut off, no UTF-8, or a special id.
      continue
    return _visible(character), length
  return "\N{REPLACEMENT CHARACTER}", 1


def _visible(character: str) -> str:
  if character == "\n":
    return "↵"
  if unicodedata.category(character) != "Cc":
    return character
  code = ord(character)
  return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"


def of_pieces(
    maps: np.ndarray, parts: Sequence[Piece], look: Look
) -> np.ndarray:
  """The attention of each map [..., M] to each piece.

  Weights of its bytes are summed up; of scores, it is the largest.
  """
  reduce = np.max if look.is_scores else np.sum
  return np.stack(
      [reduce(maps[..., p.start : p.stop], axis=-1) for p in parts], axis=-1
  )


_STYLE = """
body { font-family: sans-serif; margin: 2em; max-width: 75em; }
.text { font-family: monospace; white-space: pre-wrap; line-height: 1.6;
        overflow-wrap: anywhere; margin: 0.2em 0 1.2em; }
.label { color: #555555; font-size: 90%; }
.mark { outline: 2px solid #00a0ff; }
.scale { width: 20em; height: 1em; border: 1px solid #999999; }
.ends { width: 20em; display: flex; justify-content: space-between; }
"""


def text_html(
    title: str,
    ids: np.ndarray,
    sections: Mapping[str, np.ndarray],
    labels: Sequence[str],
    look: Look,
    marks: Sequence[int | None] | None = None,
) -> str:
  """A page with the text of each map, coloured by attention.

  Args:
    title: title of the page.
    ids: ids of the text, without padding.
    sections: heading -> maps over the ids, [Q, M].
    labels: labels of each map of a section.
    look: its colours.
    marks: marks of each map, an id to outline.
  """
  look = dataclasses.replace(look, is_light=True)
  parts = pieces(ids)
  maps = [of_pieces(section, parts, look) for section in sections.values()]
  limits = look.limits(np.concatenate(maps))
  end = iter(limits)
  body = [f"<h1>{html.escape(title)}</h1>", _scale(look, limits[0])]
  for heading, section in zip(sections, maps, strict=True):
    body.append(f"<h2>{html.escape(heading)}</h2>")
    for i, values in enumerate(section):
      low, high = one = next(end)
      span = f"{look.what}s {number(low)} to {number(high)}"
      body.append(f'<div class="label">{html.escape(labels[i])}: {span}</div>')
      mark = marks[i] if marks else None
      body.append(f'<div class="text">{_spans(parts, values, one, look, mark)}')
      body.append("</div>")
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
      f"<body>{chr(10).join(body)}</body></html>\n"
  )


def _spans(parts, values, limits, look, mark) -> str:
  spans = []
  colored = look.colored(values, limits)
  for part, value, color in zip(parts, values, colored, strict=True):
    style = ""
    if np.isfinite(value):
      style = f"background:{colors.to_hex(color)};color:{_ink(color)}"
    is_marked = mark is not None and part.start <= mark < part.stop
    shown = html.escape(part.shown) + "\n" * (part.shown == "↵")
    spans.append(
        f"<span{' class=mark' * is_marked} style={style!r}"
        f' title="{part.start}: {number(value)}">{shown}</span>'
    )
  return "".join(spans)


def _ink(background) -> str:
  """Black or white, whichever is read more easily."""
  return "black" if background @ [0.3, 0.6, 0.1] > 0.5 else "white"


def _scale(look, limits) -> str:
  low, high = limits if look.is_shared else (0.0, 1.0)
  steps = look.colored(np.linspace(low, high, 20), (low, high))
  gradient = ", ".join(colors.to_hex(step) for step in steps)
  return (
      f'<div class="scale" style="background:linear-gradient(to right,'
      f' {gradient})"></div>'
      f'<div class="ends"><span>{number(low)}</span>'
      f"<span>{html.escape(look.scale_label)}</span>"
      f"<span>{number(high)}</span></div>"
  )


def text_figure(
    title: str,
    ids: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[str],
    look: Look,
    marks: Sequence[int | None] | None = None,
    columns: int = 96,
) -> Figure:
  """The same as a figure; characters that its font lacks are squares.

  Args:
    title: title of the figure.
    ids: ids of the text, without padding.
    maps: [Q, M].
    labels: labels of each map.
    look: its colours.
    marks: marks of each map, an id to outline.
    columns: characters in a line.
  """
  look = dataclasses.replace(look, is_light=True)
  parts = pieces(ids)
  values = of_pieces(maps, parts, look)
  limits = look.limits(values)
  glyphs = [_drawable(part.shown) for part in parts]
  places = _places(glyphs, columns)
  num_lines = places[-1][0] + 1
  block = num_lines + 2.2  # Its label, and what is left free.
  columns = max(
      60, max(c + len(g) for (_, c), g in zip(places, glyphs, strict=True))
  )
  # Pixels; a character of this font at this size is exactly ten wide.
  cell, line = 10, 20
  left, top, bottom = 20, 50, 90
  width = left * 2 + cell * columns
  height = top + bottom + round(line * block * len(maps))
  figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
  figure.suptitle(title, y=1 - 15 / height, va="top", fontsize=11)
  ax = figure.add_axes(
      (
          left / width,
          bottom / height,
          cell * columns / width,
          1 - (top + bottom) / height,
      )
  )
  ax.set(xlim=(0, columns), ylim=(block * len(maps), 0))
  ax.axis("off")
  for i, row in enumerate(values):
    y = i * block
    span = f"{number(limits[i][0])} to {number(limits[i][1])}"
    label = f"{labels[i]}: {look.what}s {span}"
    ax.text(0, y + 0.7, label, fontsize=9, color="#444444", va="center")
    colored = look.colored(row, limits[i])
    mark = marks[i] if marks else None
    lines = {"black": {}, "white": {}}
    rectangles, faces = [], []
    for part, glyph, (at, x), color, value in zip(
        parts, glyphs, places, colored, row, strict=True
    ):
      where = (x, y + 1.2 + at)
      is_known = np.isfinite(value)
      if is_known:
        rectangles.append(patches.Rectangle(where, len(glyph), 1))
        faces.append(color)
      if mark is not None and part.start <= mark < part.stop:
        outline = patches.Rectangle(
            where, len(glyph), 1, fill=False, edgecolor=MARK, linewidth=2
        )
        ax.add_patch(outline)
      ink = _ink(color) if is_known else "black"
      lines[ink].setdefault(at, [" "] * columns)[x : x + len(glyph)] = glyph
    ax.add_collection(
        collections.PatchCollection(
            rectangles, facecolors=faces, edgecolors="none", zorder=0.5
        )
    )
    # One text a line is far quicker to draw than one a character.
    for ink, by_line in lines.items():
      for at, characters in by_line.items():
        ax.text(
            0,
            y + 1.2 + at + 0.75,
            "".join(characters),
            family="DejaVu Sans Mono",
            fontsize=12,
            color=ink,
            va="baseline",
            parse_math=False,
            zorder=3,
        )
  low, high = limits[0] if look.is_shared else (0.0, 1.0)
  scale = cm.ScalarMappable(look.norm(low, high), look.colormap)
  bar = figure.add_axes((left / width, 55 / height, 0.5, 15 / height))
  figure.colorbar(
      scale, cax=bar, orientation="horizontal", label=look.scale_label
  )
  return figure


def _places(glyphs: Sequence[str], columns: int) -> list[tuple[int, int]]:
  """(line, column) of each piece of a text that is wrapped."""
  places, line, column = [], 0, 0
  for glyph in glyphs:
    if column + len(glyph) > columns:
      line, column = line + 1, 0
    places.append((line, column))
    column += len(glyph)
    if glyph == "↵":
      line, column = line + 1, 0
  return places


_MONOSPACE = ft2font.FT2Font(font_manager.findfont("DejaVu Sans Mono"))


def _drawable(shown: str) -> str:
  """The text with characters of single width."""
  return "".join(
      c
      if _MONOSPACE.get_char_index(ord(c)) and not unicodedata.combining(c)
      else "□"
      for c in shown
  )
