"""Finds the ids of each word of a text, in any script."""

import re
import unicodedata

import numpy as np

from experiments.data.text.tokenizers import Tokenizer

# Scripts without spaces between words, whose characters are words as long as no
# dictionary says more: Unicode Standard Annex 29, and those of Annex 14's
# classes "ideographic" and "complex context". Katakana stays together.
_WITHOUT_SPACES = (
    (0x0E01, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FFF),  # Radicals
    (0x3001, 0x309F),  # Punctuation of Chinese and Japanese, Hiragana
    (0x3100, 0x312F),  # Bopomofo
    (0x31A0, 0x31BF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF01, 0xFF0F),  # Wide punctuation
    (0xFF1A, 0xFF20),
    (0xFF61, 0xFF65),
    (0x20000, 0x3FFFF),  # Han
)
LONGEST = 64  # Ids of a word; a longer one, such as an address, is cut.


def _any_of(ranges) -> str:
  return "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)


def _marks() -> str:
  """Whether characters combine with the character before them."""
  codes = (c for a, b in _WITHOUT_SPACES[:5] for c in range(a, b + 1))
  marks = (c for c in codes if unicodedata.category(chr(c))[0] == "M")
  return _any_of((c, c) for c in marks)


_ONE = _any_of(_WITHOUT_SPACES)
_WORD = f"[{_ONE}][{_marks()}]*|[^\\s{_ONE}]+"
_WORDS = {False: re.compile(_WORD), True: re.compile(f"\\s*(?:{_WORD})|\\s+")}


def word_of_each(
    tokens: np.ndarray, tokenizer: Tokenizer, longest: int = LONGEST
) -> np.ndarray:
  """The index of the word in which each id begins, [M]; -1: no word.

  A word is what stands between Unicode's white space. Of scripts without it,
  each character is one; what has more ids than `longest` is cut.

  Args:
    tokens: ids, special ones included, [M].
    tokenizer: the tokenizer of the ids.
    longest: ids.
  """
  data = b"".join([tokenizer.texts[i] for i in tokens.tolist()])
  # A crop may begin and end within a character.
  text = data.decode(errors="surrogateescape")
  pattern = _WORDS[tokenizer.spaces_in_words]
  spans = [match.span() for match in pattern.finditer(text)]
  starts, ends = np.array(spans, int).reshape(-1, 2).T
  # One more than there are characters, for special ids at the end.
  opens, depth = np.zeros([2, len(text) + 1], int)
  opens[starts] = 1
  depth[starts] += 1
  depth[ends] -= 1
  word = np.where(np.cumsum(depth) > 0, np.cumsum(opens) - 1, -1)
  sizes = tokenizer.num_bytes[tokens]
  word = np.append(np.repeat(word[:-1], _bytes_of_each(text)), -1)
  word = np.where(sizes > 0, word[np.cumsum(sizes) - sizes], -1)

  first = (np.diff(word, prepend=-1) != 0) & (word >= 0)
  number = np.arange(len(word))
  place = number - np.maximum.accumulate(np.where(first, number, 0))
  first |= (word >= 0) & (place % longest == 0)
  return np.where(word >= 0, np.cumsum(first) - 1, -1)


def _bytes_of_each(text: str) -> np.ndarray:
  """The size of each character in UTF-8; 1 for invalid bytes."""
  codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
  sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
  return np.where((codes >= 0xDC80) & (codes <= 0xDCFF), 1, sizes)
