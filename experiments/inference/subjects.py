"""Shared code that prepares inputs for figures of attention."""

from collections.abc import Iterator
import pathlib

import numpy as np

from experiments.data.text import tokenizers
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError


def conv_features(dims) -> tuple[int, ...]:
  """The grid of the convolutional features of an image."""
  return tuple(-(-n // 4) for n in dims)


def centre(image: np.ndarray, dims) -> np.ndarray:
  """The central part of an image [Y, X, 3]."""
  height, width = dims
  top = (image.shape[0] - height) // 2
  left = (image.shape[1] - width) // 2
  return image[top : top + height, left : left + width]


def text_subjects(
    config, inputs, length: int, is_framed: bool
) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
  """Texts, or the texts of files, for models of bytes.

  Args:
    config: config of the model.
    inputs: texts or files; [MASK] stands for a masked byte.
    length: length of the padded text.
    is_framed: whether the model reads texts between [CLS] and [SEP].

  Yields:
    a name, the ids int32 that are read, and "tokens" and "mask", [length].

  Raises:
    UserError: if the model does not read bytes, or a text is empty or too long.
  """
  if config.model.tokens.vocabulary_size != tokenizers.BYTES_VOCABULARY:
    raise UserError("only models of bytes can be shown")
  for given in inputs:
    is_file = len(given) < 256 and pathlib.Path(given).is_file()
    with user_errors(given):
      words = pathlib.Path(given).read_text("utf-8") if is_file else given
    parts = [tokenizers.encode(part) for part in words.split("[MASK]")]
    ids = np.concatenate([np.append(part, tokenizers.MASK) for part in parts])
    ids = ids[:-1]
    if not ids.size:
      raise UserError("the text is empty")
    if is_framed:
      ids = tokenizers.framed(ids)
    with user_errors(f"the text {given!r:.60}"):
      padded, mask = tokenizers.padded(ids, length)
    name = pathlib.Path(given).stem if is_file else "text"
    yield name, ids, {"tokens": padded, "mask": mask}
