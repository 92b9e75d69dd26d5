import collections

import numpy as np
import pytest

from experiments.data.sequences import ngrams


def by_hand(ids, known, order, vocabulary):
  """Chances of each id, one by one."""
  counts = collections.Counter(known)
  total = len(known) + vocabulary
  after = collections.defaultdict(collections.Counter)
  for n in range(1, order):
    for i in range(n, len(known)):
      after[tuple(known[i - n : i])][known[i]] += 1
  chances = []
  for i, word in enumerate(ids):
    chance = (counts[word] + 1) / total
    for n in range(1, min(order, i + 1)):
      seen = after[tuple(ids[i - n : i])]
      if seen:
        kinds, all_ = len(seen), sum(seen.values())
        chance = (seen[word] + kinds * chance) / (all_ + kinds)
    chances.append(chance)
  return chances


@pytest.mark.parametrize("order", [1, 2, 4])
def test_chances_are_those_of_interpolated_counts(order):
  rng = np.random.default_rng(0)
  known, ids = rng.integers(5, size=300), rng.integers(7, size=40)
  model = ngrams.Ngrams.counted(known, 7, order)
  frequency, chance = model.chances(ids)
  expected = by_hand(ids.tolist(), known.tolist(), order, 7)
  np.testing.assert_allclose(chance, expected)
  np.testing.assert_allclose(
      frequency, by_hand(ids.tolist(), known.tolist(), 1, 7)
  )


def test_chances_of_all_ids_sum_to_one():
  rng = np.random.default_rng(1)
  known = rng.integers(4, size=200)
  model = ngrams.Ngrams.counted(known, 6, 3)
  for context in ([0, 1], [3, 3], [5, 2], [5, 5]):
    each = [model.chances(np.array([*context, i]))[1][-1] for i in range(6)]
    np.testing.assert_allclose(sum(each), 1.0)


def test_a_window_is_measured_where_it_counts():
  known = np.arange(8).repeat(3)
  model = ngrams.Ngrams.counted(known, 9, 2)
  example = {
      "tokens": np.array([0, 0, 3, 4, 4]),
      "counted": np.int32(2),
  }
  found = model(example)
  _, chance = model.chances(np.array([3, 4, 4]))
  np.testing.assert_allclose(
      found["ngram_nats"], -np.log(chance[-2:]).sum(), rtol=1e-6
  )


def test_xz_needs_less_for_what_it_has_seen():
  rng = np.random.default_rng(0)
  text = bytes(rng.integers(256, size=5000, dtype=np.uint8))
  assert 8.0 < ngrams.xz_bits_per_byte(text) < 8.3
  assert ngrams.xz_bits_per_byte(text, text) < 0.2
