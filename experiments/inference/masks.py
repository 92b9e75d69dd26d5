"""Texts with masked bytes, and what may be there."""

from collections.abc import Iterable
import heapq
import itertools
import re
from typing import NamedTuple

import numpy as np

from experiments.data.text import tokenizers as text_lib
from experiments.engine.errors import UserError

_MASK = r"\[MASK(?::(\d{1,6}))?\]"


class Bytes(NamedTuple):
  """Ids of bytes, and how likely they are."""

  ids: tuple[int, ...]
  probability: float

  def __str__(self) -> str:
    return shown(self.ids)


class Span(NamedTuple):
  """What may be at a masked place, likeliest first."""

  start: int  # Its first byte in the text.
  by_byte: list[list[Bytes]]  # At each of its bytes.
  strings: list[Bytes]  # In all of it, if its bytes do not hang together.


class Filled(NamedTuple):
  """A text without masks."""

  text: str
  spans: list[Span]


def masked(
    text: str, masks: Iterable[str] = (), needs_any: bool = True
) -> tuple[np.ndarray, list[slice]]:
  """The ids of a text, int32 [M], and where they are masked.

  Args:
    text: `[MASK]` is a masked byte in it, `[MASK:9]` are nine of them.
    masks: parts that are masked wherever they are, though they overlap.
    needs_any: whether something must be masked.

  Raises:
    UserError: if nothing is masked that must be, or one of `masks` is not in
      the text.
  """
  masks = list(masks)
  # Between the marks, whose numbers `split` gives as well.
  pieces = re.split(_MASK, text)
  for part in masks:
    if not part or not any(part in piece for piece in pieces[::2]):
      raise UserError(f"{part!r} is to be masked and is not in the text")
  ids, hidden = [], []
  for place, piece in enumerate(pieces):
    if place % 2:  # A mark.
      count = int(piece or 1)
      if not count:
        raise UserError("nothing is masked by [MASK:0]")
      hidden += [True] * count
      ids += [text_lib.MASK] * count
      continue
    is_in = [False] * len(piece)
    for part in masks:
      start = piece.find(part)
      while start >= 0:
        is_in[start : start + len(part)] = [True] * len(part)
        start = piece.find(part, start + 1)
    for letter, masked_too in zip(piece, is_in, strict=True):
      its = text_lib.encode(letter).tolist()
      hidden += [masked_too] * len(its)
      ids += [text_lib.MASK] * len(its) if masked_too else its
  if needs_any and not any(hidden):
    raise UserError("nothing is masked: write [MASK] for a byte, or [MASK:9]")
  edges = np.flatnonzero(np.diff([0, *hidden, 0])).reshape(-1, 2)
  spans = [slice(int(start), int(end)) for start, end in edges]
  return np.array(ids, np.int32), spans


def k_best(log_probs: np.ndarray, k: int) -> list[Bytes]:
  """The k likeliest sequences of independent ids, likeliest first.

  Args:
    log_probs: of ids at each place, [places, vocabulary].
    k: how many.
  """
  best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
  for row in log_probs:
    choices = np.argsort(-row)[:k]
    # What is not among the k best so far cannot begin one of the k best.
    longer = ((x + row[i], (*ids, int(i))) for x, ids in best for i in choices)
    best = heapq.nlargest(k, longer, key=lambda pair: pair[0])
  return [Bytes(ids, float(np.exp(x))) for x, ids in best]


def shown(ids: Iterable[int]) -> str:
  r"""Ids as text that shows each one: `\xff` is half a letter, `[PAD]` none."""
  text = ""
  for is_byte, run in itertools.groupby(
      ids, lambda i: i >= text_lib.NUM_SPECIAL
  ):
    if is_byte:
      values = bytes(i - text_lib.NUM_SPECIAL for i in run)
      letters = values.decode("utf-8", errors="backslashreplace")
    else:
      letters = "".join(text_lib.SPECIAL[i] for i in run)
    for x in letters:
      text += x if x.isprintable() else x.encode("unicode_escape").decode()
  return text
