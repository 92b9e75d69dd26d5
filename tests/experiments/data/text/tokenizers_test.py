"""The byte tokenizer against the official one."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.data.text import tokenizers

GOLDEN = json.loads(
    (
        pathlib.Path(__file__).parents[4]
        / "tests/golden"
        / "comp_bytes_tokenizer.json"
    ).read_text(encoding="utf-8")
)


class GoldenTest(absltest.TestCase):

  def test_the_vocabulary_is_the_published_one(self):
    self.assertEqual(tokenizers.BYTES_VOCABULARY, GOLDEN["vocab_size"])
    for name in ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP"):
      self.assertEqual(getattr(tokenizers, name), GOLDEN[name.lower()])

  def test_texts_have_the_published_ids(self):
    for case in GOLDEN["cases"]:
      if "text" in case:
        with self.subTest(case["text"]):
          ids = tokenizers.encode(case["text"])
          self.assertEqual(ids.tolist(), case["ids"])
          self.assertEqual(ids.dtype, np.int32)

  def test_ids_have_the_published_text(self):
    for case in GOLDEN["cases"]:
      with self.subTest(case["ids"]):
        self.assertEqual(tokenizers.decode(np.array(case["ids"])), case["back"])
        self.assertEqual(tokenizers.decode(case["ids"]), case["back"])


class TextTest(parameterized.TestCase):

  def test_every_byte_has_its_own_id(self):
    ids = tokenizers.encode("".join(map(chr, range(0x900))))
    self.assertEqual(tokenizers.decode(ids), "".join(map(chr, range(0x900))))
    self.assertGreaterEqual(ids.min(), tokenizers.NUM_SPECIAL)
    self.assertLess(ids.max(), tokenizers.BYTES_VOCABULARY)

  def test_an_id_beyond_the_vocabulary_is_refused(self):
    tokenizers.decode([tokenizers.BYTES_VOCABULARY - 1])
    with self.assertRaises(ValueError):
      tokenizers.decode([tokenizers.BYTES_VOCABULARY])

  @parameterized.parameters(7, 11)
  def test_padding_follows_what_is_real(self, length):
    ids, mask = tokenizers.padded(tokenizers.encode("padding"), length)
    expected = list(b"padding") + [-6] * (length - 7)
    self.assertEqual(ids.tolist(), [value + 6 for value in expected])
    self.assertEqual(mask.tolist(), [True] * 7 + [False] * (length - 7))
    self.assertEqual((ids.dtype, mask.dtype), (np.int32, np.bool_))

  def test_what_does_not_fit_is_refused_with_both_lengths(self):
    with self.assertRaisesRegex(ValueError, "7 ids do not fit into 5"):
      tokenizers.padded(tokenizers.encode("padding"), 5)


if __name__ == "__main__":
  absltest.main()
