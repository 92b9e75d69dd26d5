"""Reads `.npz` files, and checks sizes before it allocates memory."""

import io
import math
import pathlib
import zipfile

import numpy as np

from perceiver.weights.tensors import dtype_of
from perceiver.weights.tensors import gist
from perceiver.weights.tensors import npy_header
from perceiver.weights.tensors import printable
from perceiver.weights.tensors import WeightsError


def load(
    file: pathlib.Path, text: str | None = None
) -> tuple[dict[str, np.ndarray], str]:
  """The arrays of a file of `numpy.savez`, and one text in it.

  Sizes are looked at before anything is read, so that no more memory is taken
  than the file is long; what is read is compared with its check sum.

  Args:
    file: the file.
    text: the name of a member that is a text; None: there is none.

  Returns:
    (name -> array of numbers, the text or "").

  Raises:
    WeightsError: if it is something else, damaged, compressed or encrypted.
  """
  arrays, found = {}, None
  try:
    size = file.stat().st_size
    with zipfile.ZipFile(file) as members:
      infos = members.infolist()
      if sum(info.file_size for info in infos) > size:
        raise WeightsError(f"{file}: its members are larger than the file")
      for info in infos:
        name = info.filename.removesuffix(".npy")
        shown = f"{file}: {printable(name)}"
        if name in arrays or (name == text and found is not None):
          raise WeightsError(f"{shown} occurs twice")
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
          how = "encrypted" if info.flag_bits & 1 else "compressed"
          raise WeightsError(f"{shown} is {how}: numpy.savez writes neither")
        array = _array(members.read(info), shown, may_be_text=name == text)
        if name == text:
          found = str(array)
        else:
          arrays[name] = array
  except WeightsError:
    raise
  except Exception as error:  # zipfile and NumPy raise errors of many kinds.
    message = f"{file} is no .npz that can be read: {gist(error)}"
    raise WeightsError(message) from error
  if text is not None and found is None:
    raise WeightsError(
        f"{file} is not a file of this project's weights: it has no {text}"
    )
  return arrays, found or ""


def _array(data: bytes, shown: str, may_be_text: bool) -> np.ndarray:
  """An array from a member's bytes."""
  if not data.startswith(np.lib.format.MAGIC_PREFIX):
    raise WeightsError(f"{shown} is not an array")
  stream = io.BytesIO(data)
  shape, is_fortran, dtype = npy_header(stream)
  if not (may_be_text and dtype.kind == "U" and shape == ()):
    if dtype.hasobject or dtype.names or dtype.subdtype:
      raise WeightsError(f"{shown} is an array of objects or fields")
    try:
      dtype = dtype_of(dtype.str[1:], dtype.str[0])
    except WeightsError as error:
      raise WeightsError(f"{shown}: {error}") from error
  content = memoryview(data)[stream.tell() :]
  if math.prod(shape) * dtype.itemsize != len(content):
    raise WeightsError(
        f"{shown} claims to be {list(shape)} of {dtype} and has"
        f" {len(content):,} bytes"
    )
  order = "F" if is_fortran else "C"
  return np.ndarray(shape, dtype, content, order=order)
