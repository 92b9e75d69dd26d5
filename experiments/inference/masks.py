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
    text: str, masks: Iterable[str] = ()
) -> tuple[np.ndarray, list[slice]]:
  """The ids of a text, int32 [M], and where they are masked.

  Raises:
    UserError: if nothing is masked, or one of `masks` is not there.
  """
  for part in masks:
    if not part or part not in text:
      raise UserError(f"{part!r} is to be masked and is not in the text")
  pattern = "|".join([_MASK, *map(re.escape, masks)])
  pieces, spans, end, length = [], [], 0, 0
  for match in re.finditer(pattern, text):
    before = text_lib.encode(text[end : match.start()])
    end = match.end()
    count = len(match[0].encode())
    if re.fullmatch(_MASK, match[0]):
      count = int(match[1] or 1)
    pieces += [before, np.full([count], text_lib.MASK, np.int32)]
    start = length + len(before)
    length = start + count
    if spans and spans[-1].stop == start:  # They are one.
      start = spans.pop().start
    spans.append(slice(start, length))
  if not all(span.stop > span.start for span in spans) or not spans:
    raise UserError("nothing is masked: write [MASK] for a byte, or [MASK:9]")
  return np.concatenate([*pieces, text_lib.encode(text[end:])]), spans


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
