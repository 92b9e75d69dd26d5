"""Texts with masked tokens, and what may be there."""

from collections.abc import Iterable
from collections.abc import Iterator
import heapq
import itertools
import re
from typing import NamedTuple

import numpy as np

from experiments.data.text import tokenizers as text_lib
from experiments.data.text.tokenizers import Tokenizer
from experiments.engine.errors import UserError

_MARK = "\ue000"  # For private use: it stands for a mark while text is encoded.
_MASK = r"\[MASK(?::(\d{1,6}))?\]"


class Guess(NamedTuple):
  """Tokens, and how likely they are."""

  ids: tuple[int, ...]
  text: str  # As of `shown`.
  probability: float

  def __str__(self) -> str:
    return self.text


class Span(NamedTuple):
  """Candidates for a masked span, the most likely first."""

  start: int  # Its first token in the text; for models of bytes, its byte.
  by_token: list[list[Guess]]  # For each of its tokens.
  strings: list[Guess]  # For all of it, if its tokens are independent.


class Filled(NamedTuple):
  """A text without masks."""

  text: str
  spans: list[Span]


def masked(
    text: str,
    masks: Iterable[str],
    tokenizer: Tokenizer,
    needs_any: bool = True,
) -> tuple[np.ndarray, list[slice]]:
  """The ids of a text, int32 [M], and its mask.

  Args:
    text: `[MASK]` is a masked token in it, `[MASK:9]` are nine of them.
    masks: parts that are masked wherever they are, though they overlap. Every
      token that has some of a part is masked.
    tokenizer: of the model.
    needs_any: whether something must be masked.

  Raises:
    UserError: if nothing is masked that must be, or one of `masks` is not in
      the text.
  """
  # Between the marks, whose numbers `split` gives as well.
  pieces = re.split(_MASK, text)
  counts = [int(count or 1) for count in pieces[1::2]]
  if 0 in counts:
    raise UserError("nothing is masked by [MASK:0]")
  if _MARK in text:
    raise UserError(f"a text cannot have the character {ascii(_MARK)}")
  # Tokens are those of the whole text: beside a mark as anywhere.
  whole = tokenizer.encode(_MARK.join(pieces[::2]).encode())
  read = b"".join(tokenizer.texts[i] for i in whole)
  ends = np.cumsum(tokenizer.num_bytes[whole], dtype=np.int64)
  starts = ends - tokenizer.num_bytes[whole]

  def tokens_of(part: str) -> Iterator[slice]:
    sought = part.encode()
    at = read.find(sought) if sought else -1
    while at >= 0:
      first = int(np.searchsorted(ends, at, "right"))
      yield slice(first, int(np.searchsorted(starts, at + len(sought))))
      at = read.find(sought, at + 1)

  whole, hidden = np.array(whole), np.zeros(len(whole), bool)
  for part in masks:
    places = list(tokens_of(part))
    if not places:
      raise UserError(f"{part!r} cannot be masked: not in the text")
    for place in places:
      hidden[place] = True
  whole[hidden] = text_lib.MASK
  ids, is_in, done = [], [], 0
  for mark, count in zip(tokens_of(_MARK), counts, strict=True):
    until = mark.start
    # The space before a masked word is of its token.
    if tokenizer.spaces_in_words and read[: starts[until]].endswith(b" "):
      until -= int(ends[until - 1] - starts[until - 1] == 1)
    ids += [*whole[done:until], *[text_lib.MASK] * count]
    is_in += [*hidden[done:until], *[True] * count]
    done = mark.stop
  ids += [*whole[done:]]
  is_in += [*hidden[done:]]
  if needs_any and not any(is_in):
    raise UserError("nothing is masked: write [MASK] for a token, or [MASK:9]")
  edges = np.flatnonzero(np.diff([0, *is_in, 0])).reshape(-1, 2)
  spans = [slice(int(start), int(end)) for start, end in edges]
  return np.array(ids, np.int32), spans


def k_best(log_probs: np.ndarray, k: int, tokenizer: Tokenizer) -> list[Guess]:
  """The k most likely sequences of independent ids, the most likely first.

  Args:
    log_probs: log-probabilities of ids at each place, [places, vocabulary].
    k: number of sequences.
    tokenizer: of the ids.
  """
  best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
  for row in log_probs:
    choices = np.argsort(-row)[:k]
    # What is not among the k best so far cannot begin one of the k best.
    longer = ((x + row[i], (*ids, int(i))) for x, ids in best for i in choices)
    best = heapq.nlargest(k, longer, key=lambda pair: pair[0])
  return [
      Guess(ids, shown(ids, tokenizer), float(np.exp(x))) for x, ids in best
  ]


def shown(ids: Iterable[int], tokenizer: Tokenizer) -> str:
  r"""Ids as text that shows each one: `\xff` is half a letter, `[PAD]` none."""
  text = ""
  for is_text, run in itertools.groupby(
      ids, lambda i: i >= text_lib.NUM_SPECIAL
  ):
    if is_text:
      read = b"".join(tokenizer.texts[i] for i in run)
      letters = read.decode("utf-8", errors="backslashreplace")
    else:
      letters = "".join(text_lib.SPECIAL[i] for i in run)
    for x in letters:
      text += x if x.isprintable() else x.encode("unicode_escape").decode()
  return text
