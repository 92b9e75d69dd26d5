"""The byte tokenizer against the official one."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from experiments.data import text

GOLDEN = json.loads(
    (
        pathlib.Path(__file__).parent / "golden" / "comp_bytes_tokenizer.json"
    ).read_text(encoding="utf-8")
)


class GoldenTest(absltest.TestCase):

  def test_the_vocabulary_is_the_published_one(self):
    self.assertEqual(text.BYTES_VOCABULARY, GOLDEN["vocab_size"])
    for name in ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP"):
      self.assertEqual(getattr(text, name), GOLDEN[name.lower()])

  def test_texts_have_the_published_ids(self):
    for case in GOLDEN["cases"]:
      if "text" in case:
        with self.subTest(case["text"]):
          ids = text.encode(case["text"])
          self.assertEqual(ids.tolist(), case["ids"])
          self.assertEqual(ids.dtype, np.int32)

  def test_ids_have_the_published_text(self):
    for case in GOLDEN["cases"]:
      with self.subTest(case["ids"]):
        self.assertEqual(text.decode(np.array(case["ids"])), case["back"])
        self.assertEqual(text.decode(case["ids"]), case["back"])


class TextTest(parameterized.TestCase):

  def test_every_byte_has_its_own_id(self):
    ids = text.encode("".join(map(chr, range(0x900))))
    self.assertEqual(text.decode(ids), "".join(map(chr, range(0x900))))
    self.assertGreaterEqual(ids.min(), text.NUM_SPECIAL)
    self.assertLess(ids.max(), text.BYTES_VOCABULARY)

  def test_an_id_beyond_the_vocabulary_is_refused(self):
    text.decode([text.BYTES_VOCABULARY - 1])
    with self.assertRaises(ValueError):
      text.decode([text.BYTES_VOCABULARY])

  @parameterized.parameters(7, 11)
  def test_padding_follows_what_is_real(self, length):
    ids, mask = text.padded(text.encode("padding"), length)
    expected = list(b"padding") + [-6] * (length - 7)
    self.assertEqual(ids.tolist(), [value + 6 for value in expected])
    self.assertEqual(mask.tolist(), [True] * 7 + [False] * (length - 7))
    self.assertEqual((ids.dtype, mask.dtype), (np.int32, np.bool_))

  def test_what_does_not_fit_is_refused_with_both_lengths(self):
    with self.assertRaisesRegex(ValueError, "7 ids do not fit into 5"):
      text.padded(text.encode("padding"), 5)


if __name__ == "__main__":
  absltest.main()
