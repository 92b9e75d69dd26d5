"""Zip files, with errors that name them."""

import pathlib
import zipfile
import zlib

from experiments.data.errors import DataError


def open_zip(path: pathlib.Path) -> zipfile.ZipFile:
  """A zip file.

  Raises:
    DataError: if it is none.
    OSError: if it cannot be opened.
  """
  try:
    return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise DataError(f"{path} is no zip file: {error}") from error


def unzipped(archive: zipfile.ZipFile, name: str) -> bytes:
  """What a file in a zip file holds.

  Raises:
    DataError: if it is broken.
  """
  try:
    return archive.read(name)
  except (EOFError, zipfile.BadZipFile, zlib.error) as error:
    where = f"{archive.filename}/{name}"
    raise DataError(f"{where} is broken: {error}") from error
