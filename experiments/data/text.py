"""Text as the bytes of its UTF-8 encoding, as the published model reads it."""

import numpy as np

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
NUM_SPECIAL = 6
BYTES_VOCABULARY = NUM_SPECIAL + 256


def encode(text: str) -> np.ndarray:
  """The ids of a text's bytes, int32; no special ids are added."""
  ids = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)
  return ids + NUM_SPECIAL


def decode(ids: np.ndarray) -> str:
  """The text of ids; special ones say nothing, and a broken byte is U+FFFD."""
  ids = np.asarray(ids, np.int32)
  values = ids[ids >= NUM_SPECIAL] - NUM_SPECIAL
  return bytes(values.tolist()).decode("utf-8", errors="replace")


def padded(ids: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Ids filled up to a length, and which of them are real.

  Raises:
    ValueError: if there are more ids than that.
  """
  if len(ids) > length:
    raise ValueError(f"{len(ids)} ids do not fit into {length}")
  filled = np.full([length], PAD, np.int32)
  filled[: len(ids)] = ids
  return filled, np.arange(length) < len(ids)
