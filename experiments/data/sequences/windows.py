"""Windows of sequences, and masks of the elements to predict.

A window is its newest elements, as many as a model reads and one more, with
padding before them if there are fewer. The model is given all but the last, and
predicts those after the newest N of what it is given, of which the last
`counted` count.
"""

from collections.abc import Iterable
import dataclasses
from typing import Any

import numpy as np

from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import Tokenizer


def ending(ids: np.ndarray, end: int, length: int) -> np.ndarray:
  """The `length` + 1 ids before an end, int32, padded at the front."""
  part = ids[max(end - length - 1, 0) : end]
  return np.pad(part.astype(np.int32), (length + 1 - len(part), 0))


def random(
    example: Example,
    rng: np.random.Generator,
    length: int,
    latents: int,
    least: int = 0,
) -> Example:
  """A window of a sequence that ends anywhere.

  Args:
    example: "ids".
    rng: random generator.
    length: elements that the model reads.
    latents: elements that it predicts, at most.
    least: the first elements, which are not predicted. As many elements are
      before the end, at least, of those there are; no fewer than the latents,
      so that the first elements are not learned more often.

  Returns:
    "tokens", int32 [length + 1], and "counted".
  """
  ids = example["ids"]
  first = min(max(least, latents) + 1, len(ids))
  # The last elements are in few windows: that of the end comes more often, so
  # that none is learned less often than those in the middle.
  end = min(int(rng.integers(first, len(ids) + latents)), len(ids))
  return {
      "tokens": ending(ids, end, length),
      "counted": np.int32(min(latents, max(end - least, 0))),
  }


def of_text(
    example: Example,
    rng: np.random.Generator,
    tokenizer: Tokenizer,
    length: int,
    latents: int,
) -> Example:
  """A window of documents one after the other, each from BOS to EOS.

  Args:
    example: "documents", bytes in UTF-8.
    rng: random generator.
    tokenizer: the tokenizer.
    length: elements that the model reads.
    latents: elements that it predicts.

  Returns:
    as `random`.
  """
  documents = example["documents"]
  longest = (length + 1) * tokenizer.most_bytes
  total = sum(len(document) for document in documents)
  start, ids = int(rng.integers(max(total - longest, 0) + 1)), []
  for document in documents:
    stop = start + longest
    if start < len(document) and stop > 0:
      ids += [[BOS]] * (start <= 0)
      ids += [tokenizer.encode(document[max(start, 0) : stop])]
      ids += [[EOS]] * (stop >= len(document))
    start -= len(document)
  tokens = np.concatenate(ids)[: length + 1]
  return {
      "tokens": ending(tokens, len(tokens), length),
      "counted": np.int32(latents),
  }


def stream(
    documents: Iterable[bytes], tokenizer: Tokenizer, most_bytes: int
) -> tuple[np.ndarray, bytes]:
  """Documents as one sequence of ids, each from BOS to EOS, and their text.

  Args:
    documents: in UTF-8.
    tokenizer: the tokenizer.
    most_bytes: no further document is taken when there are so many.
  """
  ids, texts, size = [], [], 0
  for document in documents:
    ids += [[BOS], tokenizer.encode(document), [EOS]]
    texts.append(document)
    size += len(document)
    if size >= most_bytes:
      break
  return np.concatenate(ids).astype(np.int32), b"\n".join(texts)


@dataclasses.dataclass(frozen=True)
class Consecutive:
  """Windows, by index, that predict each element of a sequence once.

  The first element, which nothing comes before, is not predicted. Each has
  `length` elements before its last one, where there are so many.
  """

  ids: np.ndarray
  length: int
  counted: int  # Elements that a window predicts; of the last, maybe fewer.
  first: int = 1  # The first element that is predicted.

  def __len__(self) -> int:
    return -(-(len(self.ids) - self.first) // self.counted)

  def __getitem__(self, index: int) -> Example:
    """As `random`.

    Raises:
      IndexError: if there is no such window.
    """
    if not 0 <= index < len(self):
      raise IndexError(index)
    begin = self.first + index * self.counted
    end = min(begin + self.counted, len(self.ids))
    return {
        "tokens": ending(self.ids, end, self.length),
        "counted": np.int32(end - begin),
    }


@dataclasses.dataclass(frozen=True)
class OfAll:
  """The windows of several sequences of one length, one after the other."""

  sequences: Any  # Examples by index, with "ids".
  size: int  # Of each.
  length: int
  counted: int
  first: int = 1

  def __len__(self) -> int:
    return len(self.sequences) * self._each

  @property
  def _each(self) -> int:
    return -(-(self.size - self.first) // self.counted)

  def __getitem__(self, index: int) -> Example:
    """As `random`, and "sequence", the index of what it is of."""
    which, window = divmod(index, self._each)
    ids = self.sequences[which]["ids"]
    every = Consecutive(ids, self.length, self.counted, self.first)
    return {**every[window], "sequence": np.int32(which)}
