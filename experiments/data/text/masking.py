"""Masked language modelling's examples: cropped text with words masked.

Source: Perceiver IO, appendix F.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import sys
from typing import Any, Literal

import grain
import numpy as np

from experiments.data.pipeline import Example
from experiments.data.text import tokenizers
from experiments.data.text import words
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import MASK
from experiments.data.text.tokenizers import padded
from experiments.data.text.tokenizers import Tokenizer

_FEW = 200  # Documents.
DOCUMENTS = 10  # That are joined before cropping.
MASK_RATE = 0.15  # How likely a word is masked.
# As if each id had been seen so often after every other, as in all the text.
_PRIOR = 10.0


def in_tens(
    documents: Any, seed: int, key: Literal["text", "documents"] = "text"
) -> grain.MapDataset:
  """Texts of ten documents each, in random order, without end.

  Args:
    documents: bytes, by index.
    seed: seed of the order, which changes in every pass.
    key: key of the result.

  Returns:
    {"text": documents with line breaks between them}, or {"documents": them}.
  """
  source = grain.MapDataset.source(documents).seed(seed)
  if len(documents) < _FEW:
    shuffled = _Shuffled(source, seed)
  else:
    shuffled = source.shuffle().repeat()
  return shuffled.batch(
      DOCUMENTS, batch_fn=_joined if key == "text" else _together
  )


class _Shuffled(grain.MapDataset):
  """A few documents, in another order in every pass, without end.

  Grain's shuffle looks for each place among 65,536: of four documents that
  takes longer than all else.
  """

  def __init__(self, documents: grain.MapDataset, seed: int):
    super().__init__(documents)
    self._number, self._of_run = len(documents), seed

  def __len__(self) -> int:
    return sys.maxsize if self._number else 0

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return self.slice(index)
    seen, place = divmod(index, self._number)
    return self._parent[_order(self._number, self._of_run, seen)[place]]


@functools.lru_cache(maxsize=64)
def _order(number: int, seed: int, seen: int) -> list[int]:
  return np.random.default_rng([seed, seen]).permutation(number).tolist()


def _joined(documents: Sequence[bytes]) -> dict[str, bytes]:
  return {"text": b"\n".join(documents)}


def _together(documents: Sequence[bytes]) -> dict[str, list[bytes]]:
  return {"documents": list(documents)}


def cropped(
    example: Example,
    rng: np.random.Generator,
    tokenizer: Tokenizer,
    length: int,
    is_framed: bool = False,
) -> Example:
  """A random part of the text, as ids.

  Args:
    example: "text", in UTF-8.
    rng: random generator.
    tokenizer: the tokenizer.
    length: ids; a shorter text is padded.
    is_framed: whether the part stands between [CLS] and [SEP], as BERT's does;
      they are never masked.

  Returns:
    "tokens" and "mask", [length]; the mask is False where there is padding.
  """
  room = length - tokenizers.FRAME * is_framed
  text, longest = example["text"], room * tokenizer.most_bytes
  start = rng.integers(max(len(text) - longest, 0) + 1)
  ids = tokenizer.encode(text[start : start + longest])[:room]
  if is_framed:
    ids = tokenizers.framed(ids)
  tokens, mask = padded(ids, length)
  return {"tokens": tokens, "mask": mask}


def masked(
    example: Example,
    rng: np.random.Generator,
    tokenizer: Tokenizer,
    most: int,
) -> Example:
  """Masks each word with a probability of 15 %, and keeps the originals.

  All ids of a word become MASK. Words are those of `words.word_of_each`, for
  bytes and SentencePiece tokens alike; none has more ids than may be masked.
  Where there is a word, something is masked.

  Args:
    example: "tokens" and "mask".
    rng: random generator.
    tokenizer: the tokenizer of the ids.
    most: ids to mask; words that would be too many stay.

  Returns:
    "tokens" with MASK in them, "mask", and, [most] long and filled up with
    zeros: "positions" of what is masked, in order, the "targets" that stood
    there, and their "loss_mask", 1 or 0.
  """
  tokens = example["tokens"]
  (positions,) = np.nonzero(_chosen(tokens, rng, tokenizer, most))
  rest = (0, most - len(positions))
  given = tokens.copy()
  given[positions] = MASK
  return {
      "tokens": given,
      "mask": example["mask"],
      "positions": np.pad(positions.astype(np.int32), rest),
      "targets": np.pad(tokens[positions], rest),
      "loss_mask": np.pad(np.ones(len(positions), np.float32), rest),
  }


def _chosen(
    tokens: np.ndarray, rng: np.random.Generator, tokenizer: Tokenizer, most
) -> np.ndarray:
  """The ids of chosen words."""
  word = words.word_of_each(tokens, tokenizer, min(words.LONGEST, most))
  sizes = np.bincount(word[word >= 0])
  count = len(sizes)
  order = np.flatnonzero(rng.random(count) < MASK_RATE)
  if count and not len(order):
    order = rng.integers(count, size=1)
  order = rng.permutation(order)
  is_chosen = np.zeros(count + 1, bool)  # The last one is never chosen.
  is_chosen[order[np.cumsum(sizes[order]) <= most]] = True
  return is_chosen[word]


@dataclasses.dataclass(frozen=True)
class CountBaselines:
  """A step: the cross-entropy of unigram and left-bigram baselines.

  "unigram" knows how frequent each masked id is; "left_bigram" also sees the id
  on its left, in the text as it is given: with words masked.
  """

  frequency: np.ndarray  # Of each id among masked ones; the sum is 1.
  pairs: np.ndarray  # left × vocabulary + masked id, sorted
  pair_counts: np.ndarray
  left_counts: np.ndarray  # Of each id, on the left of a masked one.
  after: np.ndarray  # The most frequent masked id after each.

  @classmethod
  def counted(
      cls, batches: Iterable[Example], vocabulary: int
  ) -> "CountBaselines":
    """Counts ids in batches of `masked`."""
    parts = [_seen(batch) for batch in batches]
    left, target = np.concatenate(parts, axis=1)
    counts = np.bincount(target, minlength=vocabulary) + 1.0
    pairs, pair_counts = np.unique(
        left.astype(np.int64) * vocabulary + target, return_counts=True
    )
    after = np.full([vocabulary], counts.argmax())
    by_count = np.argsort(pair_counts, kind="stable")
    # The last write of each id stays: that of the most frequent pair.
    after[pairs[by_count] // vocabulary] = pairs[by_count] % vocabulary
    return cls(
        frequency=counts / counts.sum(),
        pairs=pairs,
        pair_counts=pair_counts,
        left_counts=np.bincount(left, minlength=vocabulary),
        after=after,
    )

  def __call__(self, example: Example) -> Example:
    """Adds "NAME_nats" and "NAME_right", of "unigram" and "left_bigram"."""
    left, target = _seen({name: x[None] for name, x in example.items()})
    frequency = self.frequency[target]
    pair = left.astype(np.int64) * len(self.frequency) + target
    at = np.minimum(np.searchsorted(self.pairs, pair), len(self.pairs) - 1)
    seen = np.where(self.pairs[at] == pair, self.pair_counts[at], 0)
    chance = (seen + _PRIOR * frequency) / (self.left_counts[left] + _PRIOR)
    best = self.frequency.argmax()
    return {
        **example,
        "unigram_nats": np.float32(-np.log(frequency).sum()),
        "unigram_right": np.float32((target == best).sum()),
        "left_bigram_nats": np.float32(-np.log(chance).sum()),
        "left_bigram_right": np.float32((target == self.after[left]).sum()),
    }


def _seen(batch: Example) -> np.ndarray:
  """The ids to the left of masked ids, and the masked ids, [2, masked]."""
  rows, columns = np.nonzero(batch["loss_mask"])
  positions = batch["positions"][rows, columns]
  left = np.where(positions, batch["tokens"][rows, positions - 1], BOS)
  return np.stack([left, batch["targets"][rows, columns]])
