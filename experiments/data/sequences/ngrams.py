"""Baselines for sequences: n-grams and compression."""

import dataclasses
import lzma

import numpy as np

from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import PAD

# Odd numbers that spread bits, as of a linear congruential generator.
_STEP, _SPREAD = np.uint64(6364136223846793005), np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class _Order:
  """Counts of ids after contexts of one length, by hash."""

  pairs: np.ndarray  # A context and the id after it; sorted.
  counts: np.ndarray
  contexts: np.ndarray  # Sorted.
  totals: np.ndarray  # How often each was seen.
  kinds: np.ndarray  # How many different ids came after it.


@dataclasses.dataclass(frozen=True)
class Ngrams:
  """Interpolated n-gram probabilities; also a step.

  A context that was seen `total` times before `kinds` different ids trusts its
  own counts with total / (total + kinds), and leaves the rest to the context
  without its first id; the last of these is how frequent ids are.

  Source: Witten and Bell, 1991, "method C".
  """

  frequency: np.ndarray  # Of each id; the sum is 1.
  orders: list[_Order]  # For contexts of 1, 2, ... ids.

  @classmethod
  def counted(
      cls, ids: np.ndarray, vocabulary_size: int, order: int
  ) -> "Ngrams":
    """Counts n-grams of a sequence.

    Args:
      ids: the sequence.
      vocabulary_size: ids there are.
      order: ids that are looked at together, the predicted one among them.
    """
    counts = np.bincount(ids, minlength=vocabulary_size) + 1.0
    orders = []
    for context in range(1, order):
      pair = _hashes(ids, context + 1)[context:]
      before = _hashes(ids, context)[context - 1 : -1]
      pairs, at, seen = np.unique(pair, return_index=True, return_counts=True)
      contexts, totals = np.unique(before, return_counts=True)
      kinds = np.unique(before[at], return_counts=True)[1]
      orders.append(_Order(pairs, seen, contexts, totals, kinds))
    return cls(counts / counts.sum(), orders)

  def chances(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unigram and n-gram probabilities of each id of a sequence.

    Those at the beginning are given as few ids before them as there are.
    """
    frequency = self.frequency[ids]
    chance = frequency.copy()
    for context, order in enumerate(self.orders, start=1):
      if len(ids) <= context:
        break
      pair = _hashes(ids, context + 1)[context:]
      before = _hashes(ids, context)[context - 1 : -1]
      seen = _found(order.pairs, order.counts, pair)
      total = _found(order.contexts, order.totals, before)
      kinds = _found(order.contexts, order.kinds, before)
      both = np.maximum(total + kinds, 1)
      lower = chance[context:]
      chance[context:] = np.where(
          total > 0, (seen + kinds * lower) / both, lower
      )
    return frequency, chance

  def __call__(self, example: Example) -> Example:
    """Adds "unigram_nats" and "ngram_nats" of the predictions of a window."""
    tokens = example["tokens"]
    real = tokens[np.argmax(tokens != PAD) :]
    nats = [
        np.float32(-np.log(chance[-int(example["counted"]) :]).sum())
        for chance in self.chances(real)
    ]
    return {**example, "unigram_nats": nats[0], "ngram_nats": nats[1]}


def _hashes(ids: np.ndarray, length: int) -> np.ndarray:
  """Hashes of the `length` ids up to each id."""
  ids = ids.astype(np.uint64) + np.uint64(1)
  found = np.zeros_like(ids)
  with np.errstate(over="ignore"):
    for back in range(length - 1, -1, -1):
      shifted = ids if not back else np.roll(ids, back)
      found = (found * _STEP + shifted) * _SPREAD
      found ^= found >> np.uint64(29)
  return found


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray):
  at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return np.where(keys[at] == wanted, values[at], 0)


def xz_bits_per_byte(text: bytes, known: bytes = b"") -> float:
  """Bits of xz per byte of a text, after another text.

  The difference between both together and the known one alone, at xz's highest
  setting.
  """
  size = lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
  before = size(known) if known else 0
  return 8 * (size(known + text) - before) / max(len(text), 1)
