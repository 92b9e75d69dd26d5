"""Text as ids: the bytes of its UTF-8 encoding, or SentencePiece tokens.

Both have the same six special ids, those of the published model.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]")
NUM_SPECIAL = len(SPECIAL)
BYTES_VOCABULARY = NUM_SPECIAL + 256


def encode(text: str) -> np.ndarray:
  """The ids of a text's bytes, int32; no special ids are added."""
  return encode_bytes(text.encode("utf-8"))


def encode_bytes(text: bytes) -> np.ndarray:
  """The ids of bytes, int32, valid UTF-8 or not."""
  return np.frombuffer(text, np.uint8).astype(np.int32) + NUM_SPECIAL


def decode(ids: np.ndarray) -> str:
  """The text of ids, without special ids; invalid bytes become U+FFFD."""
  ids = np.asarray(ids, np.int32)
  values = ids[ids >= NUM_SPECIAL] - NUM_SPECIAL
  return bytes(values.tolist()).decode("utf-8", errors="replace")


def padded(ids: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Ids padded to a length, and a mask of the real ones.

  Raises:
    ValueError: if there are more ids than that.
  """
  if len(ids) > length:
    raise ValueError(f"{len(ids)} ids do not fit into {length}")
  filled = np.full([length], PAD, np.int32)
  filled[: len(ids)] = ids
  return filled, np.arange(length) < len(ids)


def framed(ids: np.ndarray) -> np.ndarray:
  """BERT's format of a text: [CLS], its ids, [SEP].

  Source: Devlin et al., 2019, §3.
  """
  return np.concatenate([[CLS], ids, [SEP]]).astype(np.int32)


FRAME = len(framed(np.zeros(0, np.int32)))  # Ids that it adds.


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Conversion of text to ids and back, with tables of the ids."""

  encode: Callable[[bytes], np.ndarray]  # Adds no special ids.
  decode: Callable[[np.ndarray], str]  # Special ids say nothing.
  texts: Sequence[bytes]  # What each id stands for, in UTF-8; special: b"".
  num_bytes: np.ndarray  # How many bytes that are.
  spaces_in_words: bool  # Whether white space belongs to the word after it.
  most_bytes: int  # So many bytes of text make no fewer ids than one, usually.

  @property
  def vocabulary_size(self) -> int:
    """The number of ids, including special ones."""
    return len(self.num_bytes)


def utf8() -> Tokenizer:
  """An id for each byte: its value, after the special ids."""
  texts = [b""] * NUM_SPECIAL + [bytes([value]) for value in range(256)]
  return Tokenizer(
      encode=encode_bytes,
      decode=decode,
      texts=texts,
      num_bytes=_sizes(texts),
      spaces_in_words=False,
      most_bytes=1,
  )


def _sizes(texts: Sequence[bytes]) -> np.ndarray:
  return np.array([len(text) for text in texts], np.int32)


# A token that opens a word begins with it.
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def sentencepiece(model: str) -> Tokenizer:
  """The tokens of a SentencePiece model.

  Args:
    model: a file that `scripts.prepare_data sentencepiece` has written.

  Raises:
    DataError: if there is none, or its first ids are not the special ones.
  """
  import sentencepiece as spm  # Of the extra `text`; bytes need nothing.

  file = pathlib.Path(model).expanduser()
  if not file.is_file():
    raise DataError(
        f"tokenizer.model: there is no file {str(file)!r}; `python -m"
        " scripts.prepare_data sentencepiece` makes one"
    )
  with errors.naming(file):
    processor = spm.SentencePieceProcessor(model_proto=errors.content(file))
    ids = range(processor.get_piece_size())
    names = [processor.id_to_piece(i) for i in ids]
  special = ["[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]"]
  if names[:NUM_SPECIAL] != special:
    raise DataError(
        f"{file}: its first tokens are {names[:NUM_SPECIAL]}, not {special}"
    )
  texts = [
      # A byte's name is <0xE7>.
      bytes([int(name[1:-1], 16)])
      if processor.is_byte(i)
      else name.replace(_SPACE, " ").encode()
      for i, name in zip(ids, names, strict=True)
  ]
  texts[:NUM_SPECIAL] = [b""] * NUM_SPECIAL
  return Tokenizer(
      encode=functools.partial(_encode_tokens, processor),
      decode=functools.partial(_decode_tokens, processor),
      texts=texts,
      num_bytes=_sizes(texts),
      spaces_in_words=True,
      most_bytes=8,
  )


def _encode_tokens(processor: Any, text: bytes) -> np.ndarray:
  # A part of a text may begin and end within a character.
  return np.asarray(processor.encode(text.decode(errors="ignore")), np.int32)


def _decode_tokens(processor: Any, ids: np.ndarray) -> str:
  ids = np.asarray(ids)
  return processor.decode(ids[ids >= NUM_SPECIAL].tolist())


TOKENIZERS = (utf8, sentencepiece)
