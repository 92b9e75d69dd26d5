"""Zip files, with errors that name them."""

import pathlib
import zipfile

from experiments.data.errors import DataError
from experiments.data.errors import naming
from experiments.data.errors import opened

_MOST = 512 << 20  # bytes of a member: more may be made of a few of a file


def open_zip(path: pathlib.Path) -> zipfile.ZipFile:
  """A zip file.

  Raises:
    DataError: if it is none.
    OSError: if it cannot be opened.
  """
  try:
    with naming(path):
      opened(path).close()  # A pipe would be waited for.
      return zipfile.ZipFile(path)
  except DataError as error:
    raise DataError(f"{path} is not a zip file: {error}") from error


def unzipped(archive: zipfile.ZipFile, name: str) -> bytes:
  """The content of a file in a zip file.

  Raises:
    DataError: if it is missing, broken, encrypted, or larger than 512 MiB.
  """
  where = f"{archive.filename}/{name}"
  with naming(f"{where} is broken"):
    info = archive.getinfo(name)
    if info.file_size > _MOST:
      raise DataError(
          f"{where} has {info.file_size:,} bytes, more than {_MOST:,}"
      )
    return archive.read(info)
