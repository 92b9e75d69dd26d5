"""Examples of masked language modelling."""

import collections

import numpy as np
import pytest
import sentencepiece as spm

from experiments import mlm
from experiments.data.text import masking
from experiments.data.text import tokenizers
from experiments.data.text import words
from experiments.data.text.tokenizers import MASK
from experiments.data.text.tokenizers import SEP

UTF8 = tokenizers.utf8()
WORDS = "the cat  sat on\tthe mat\nand wäre gone, said 猫 ."


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
  """A SentencePiece tokenizer of 300 ids, trained on a few words."""
  folder = tmp_path_factory.mktemp("sentencepiece")
  rng = np.random.default_rng(0)
  lines = [" ".join(rng.permutation(WORDS.split())) for _ in range(200)]
  (folder / "text").write_text("\n".join(lines))
  spm.SentencePieceTrainer.train(
      input=str(folder / "text"),
      model_prefix=str(folder / "sentencepiece"),
      vocab_size=300,
      byte_fallback=True,
      hard_vocab_limit=False,
      minloglevel=2,
      pad_id=0,
      pad_piece="[PAD]",
      bos_id=1,
      bos_piece="[BOS]",
      eos_id=2,
      eos_piece="[EOS]",
      unk_id=6,
      control_symbols="[MASK],[CLS],[SEP]",
  )
  return str(folder / "sentencepiece.model")


def example_of(ids, length):
  tokens, mask = tokenizers.padded(ids, length)
  return {"tokens": tokens, "mask": mask}


def mask_words(ids, tokenizer, seed=0, length=61, most=40):
  rng = np.random.default_rng(seed)
  return masking.masked(example_of(ids, length), rng, tokenizer, most)


def masked_words(example, tokenizer):
  """Each run of masked ids as text."""
  positions = example["positions"][example["loss_mask"] > 0]
  targets = example["targets"][: len(positions)]
  starts = np.flatnonzero(np.diff(positions, prepend=-2) > 1)
  return [tokenizer.decode(run) for run in np.split(targets, starts)[1:]]


def test_what_is_masked_is_whole_words_and_all_of_them_in_time():
  ids, seen = tokenizers.encode(WORDS), collections.Counter()
  counts = []
  for seed in range(200):
    example = mask_words(ids, UTF8, seed)
    words = masked_words(example, UTF8)
    counts.append(len(words))
    seen.update(words)
  assert set(seen) == set(WORDS.split())
  assert min(seen.values()) > 10
  # Each by itself: 15 % of 12 on average, and one where there would be none.
  assert min(counts) == 1 and max(counts) > 3
  assert np.mean(counts) == pytest.approx(12 * 0.15 + 0.85**12, abs=0.3)


def test_the_rest_stays_and_what_was_there_is_kept():
  ids = tokenizers.encode(WORDS)
  example = mask_words(ids, UTF8)
  whole = example["tokens"].copy()
  count = int(example["loss_mask"].sum())
  positions = example["positions"][:count]
  assert (whole[positions] == MASK).all() and (whole == MASK).sum() == count
  whole[positions] = example["targets"][:count]
  np.testing.assert_array_equal(whole, tokenizers.padded(ids, 61)[0])
  for name in ("positions", "targets", "loss_mask"):
    assert example[name].shape == (40,) and not example[name][count:].any()


ENGLISH = (
    "It was the best of times, it was the worst of times; it was the age of"
    " wisdom -- it was the age of foolishness,\n(don't!) \t3.14 x/y.\n"
)
# What was masked of it when this was recorded.
OF_ENGLISH = {
    0: [*range(9, 14), *range(43, 49), 53, 54, *range(94, 98), 99],
    1: [*range(4, 10), 38, 39, 66, 67],
}
SCRIPTS = {
    "English": ENGLISH,
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。",
    "Chinese, lines": "人人生而自由，在尊严和权利上一律平等。" * 18 + "\n",
    "Japanese": "すべての人間は、生れながらにして自由であり、平等である。",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์",
    "Tibetan": "འགྲོ་བ་མི་རིགས་ཡོངས་ལ་",
    "Russian": "Все люди рождаются свободными и равными. ",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 동등하다. ",
    "wide spaces": "アイウエオカ\u3000キクケコサシ\u3000",
    "letters": "abcdefghij",
}


@pytest.mark.parametrize("seed", OF_ENGLISH)
def test_of_english_the_same_words_are_masked_as_ever(seed):
  rng = np.random.default_rng(seed)
  example = masking.cropped({"text": ENGLISH.encode()}, rng, UTF8, 100)
  example = masking.masked(example, rng, UTF8, 20)
  positions = example["positions"][example["loss_mask"] > 0]
  assert positions.tolist() == OF_ENGLISH[seed]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_about_15_percent_of_every_script_is_masked(
    script, kind, sentencepiece
):
  tokenizer = (
      tokenizers.sentencepiece(sentencepiece)
      if kind == "sentencepiece"
      else UTF8
  )
  text = {"text": (SCRIPTS[script] * 400).encode()}
  masked = ids = 0
  for seed in range(20):
    rng = np.random.default_rng(seed)
    example = masking.cropped(text, rng, tokenizer, 2048)
    example = masking.masked(example, rng, tokenizer, 409)
    assert example["loss_mask"].any()
    masked += example["loss_mask"].sum()
    ids += example["mask"].sum()
  assert 0.11 < masked / ids < 0.17  # White space is never masked.


def test_words_of_scripts_without_spaces_are_characters_with_their_marks():
  seen = set()
  for seed in range(100):
    # The first character is cut off.
    ids = tokenizers.encode("猫犬 ไม่ 猫。データ")[2:]
    seen.update(masked_words(mask_words(ids, UTF8, seed), UTF8))
  # Neighbours that are masked together are one run.
  assert {"\ufffd", "犬", "ไ", "ม่", "猫", "。", "データ"} <= seen


def test_a_long_word_is_cut_into_spans():
  ids = np.concatenate([tokenizers.encode("a" * 150), np.zeros(9, np.int32)])
  word = words.word_of_each(ids, UTF8)
  assert word.tolist() == [0] * 64 + [1] * 64 + [2] * 22 + [-1] * 9
  example = mask_words(tokenizers.encode("a" * 61), UTF8, most=7)
  assert example["loss_mask"].sum() == 7


def test_words_that_would_be_too_many_stay():
  for seed in range(50):
    assert (
        mask_words(tokenizers.encode(WORDS), UTF8, seed, most=3)[
            "loss_mask"
        ].sum()
        <= 3
    )


@pytest.mark.parametrize("ids", [[], tokenizers.encode(" \n\t "), [SEP, SEP]])
def test_where_there_is_no_word_nothing_is_masked(ids):
  example = mask_words(np.asarray(ids, np.int32), UTF8)
  assert not example["loss_mask"].any() and MASK not in example["tokens"]


def test_words_of_sentencepiece_tokens_are_those_of_the_text(sentencepiece):
  tokenizer = tokenizers.sentencepiece(sentencepiece)
  ids, seen = tokenizer.encode(WORDS.encode()), set()
  assert tokenizer.vocabulary_size > tokenizers.NUM_SPECIAL + 256
  for seed in range(200):
    seen.update(
        word
        for run in masked_words(mask_words(ids, tokenizer, seed), tokenizer)
        for word in run.split()
    )
  assert seen == set(WORDS.split())


def test_tokens_are_shown_with_the_spaces_between_them(sentencepiece):
  tokenizer = tokenizers.sentencepiece(sentencepiece)
  ids = tokenizer.encode(b"the cat sat on the mat and said")
  word = words.word_of_each(ids, tokenizer)
  opens = np.flatnonzero(np.diff(word, prepend=-1))
  assert len(opens) == 8
  first, second = (np.arange(opens[i], opens[i + 1]) for i in (1, 4))
  positions = np.concatenate([first, second])
  targets = ids[positions]
  guess = np.where(np.isin(positions, second), ids[0], targets)
  assert len(second) == 1
  given = ids.copy()
  given[positions] = MASK
  assert mlm.marked(tokenizer, given, positions, targets, guess) == (
      "the **cat** sat on **the** mat and said"
  )
  guess[-1] = ids[opens[5]]
  shown = mlm.marked(tokenizer, given, positions, targets, guess)
  said = tokenizer.decode(guess[-1:])
  assert shown == f"the **cat** sat on ~~{said}~~ [the] mat and said"


def test_bytes_of_sentencepiece_tokens_are_those_of_the_text(sentencepiece):
  tokenizer = tokenizers.sentencepiece(sentencepiece)
  known = "the cat sat 猫 €"  # The last one is no token, but bytes.
  ids = tokenizer.encode(known.encode())
  assert tokenizer.decode(ids) == known
  assert tokenizer.num_bytes[ids].sum() == len(f" {known}".encode())
  assert UTF8.num_bytes[tokenizers.encode(known)].sum() == len(known.encode())


def test_a_model_with_other_special_tokens_is_refused(tmp_path):
  (tmp_path / "text").write_text(WORDS)
  spm.SentencePieceTrainer.train(
      input=str(tmp_path / "text"),
      model_prefix=str(tmp_path / "other"),
      vocab_size=40,
      hard_vocab_limit=False,
      minloglevel=2,
  )
  with pytest.raises(ValueError, match="other.model: its first tokens are"):
    tokenizers.sentencepiece(str(tmp_path / "other.model"))
  with pytest.raises(ValueError, match="no file .*none.model"):
    tokenizers.sentencepiece(str(tmp_path / "none.model"))


def test_a_crop_is_a_part_of_the_text_and_each_start_occurs(sentencepiece):
  rng = np.random.default_rng(0)
  document = {"text": bytes(range(97, 110))}
  crops = [masking.cropped(document, rng, UTF8, 7) for _ in range(200)]
  starts = {int(crop["tokens"][0]) - 6 - 97 for crop in crops}
  assert starts == set(range(7))
  assert all((np.diff(crop["tokens"]) == 1).all() for crop in crops)
  short = masking.cropped(document, rng, UTF8, 17)
  assert short["mask"].sum() == 13 and not short["tokens"][13:].any()
  tokenizer = tokenizers.sentencepiece(sentencepiece)
  long = {"text": ("the cat sat " * 1000).encode()}
  crop = masking.cropped(long, rng, tokenizer, 23)
  assert crop["mask"].all()
  assert "the cat sat the cat" in tokenizer.decode(crop["tokens"])


def test_a_crop_for_bert_stands_between_cls_and_sep_and_neither_is_masked():
  rng = np.random.default_rng(0)
  for text in (b"some words of a text", b"short"):
    crop = masking.cropped({"text": text}, rng, UTF8, 11, is_framed=True)
    ids = crop["tokens"][crop["mask"]]
    assert (ids[0], ids[-1]) == (tokenizers.CLS, tokenizers.SEP)
    assert len(ids) == min(len(text) + 2, 11)
    assert tokenizers.decode(ids[1:-1]) in text.decode()
    for _ in range(30):
      found = masking.masked(crop, rng, UTF8, most=9)
      assert found["tokens"][0] == tokenizers.CLS
      assert found["tokens"][len(ids) - 1] == tokenizers.SEP
      assert found["loss_mask"].sum()


def test_ten_documents_make_a_text_and_every_pass_has_another_order():
  documents = [b"%d" % i for i in range(20)]
  texts = masking.in_tens(documents, seed=3)
  parts = [texts[i]["text"].split(b"\n") for i in range(4)]
  for first, second in (parts[:2], parts[2:]):
    assert sorted(first + second) == sorted(documents)
  assert parts[0] + parts[1] != parts[2] + parts[3]


def test_each_pass_over_a_few_documents_has_every_one_of_them():
  few = [b"a", b"b", b"c", b"d"]
  texts = masking.in_tens(few, seed=0)
  every = [part for i in range(300) for part in texts[i]["text"].split(b"\n")]
  passes = {tuple(every[i : i + 4]) for i in range(0, 3000, 4)}
  assert {tuple(sorted(one)) for one in passes} == {tuple(few)}
  assert len(passes) == 24


def test_baselines_are_counted():
  batch = {
      "tokens": np.array([[7, MASK, 9, MASK], [7, MASK, MASK, 9]]),
      "positions": np.array([[1, 3, 0], [1, 2, 0]]),
      "targets": np.array([[8, 6, 0], [8, 6, 0]]),
      "loss_mask": np.array([[1.0, 1, 0], [1, 1, 0]]),
  }
  baselines = masking.CountBaselines.counted([batch], 11)
  frequency = (np.bincount([8, 6, 8, 6], minlength=11) + 1) / 15
  np.testing.assert_allclose(baselines.frequency, frequency)
  row = {name: array[0] for name, array in batch.items()}
  found = baselines(row)
  nats = -np.log(frequency[8]) - np.log(frequency[6])
  np.testing.assert_allclose(found["unigram_nats"], nats, rtol=1e-6)
  assert found["unigram_right"] == 1
  # 8 came after 7 twice, 6 once after 9 and once after what is masked.
  after_7 = (2 + 10 * frequency[8]) / (2 + 10)
  after_9 = (1 + 10 * frequency[6]) / (1 + 10)
  nats = -np.log(after_7) - np.log(after_9)
  np.testing.assert_allclose(found["left_bigram_nats"], nats, rtol=1e-6)
  assert found["left_bigram_right"] == 2
