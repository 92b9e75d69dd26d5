"""Errors of reading and preparing data."""

from collections.abc import Iterator
import contextlib
import errno
import os
import stat
from typing import Any, BinaryIO


class DataError(ValueError):
  """An error in data or in a file, in one line.

  One line, which names the file. Commands end with that line and no more.
  """


def not_there(
    what: str, where: str | os.PathLike[str], how: str
) -> FileNotFoundError:
  """The error for data that is missing.

  Args:
    what: is missing, as "data set 'digits'".
    where: the folder in which it was looked for.
    how: to come by it.
  """
  return FileNotFoundError(
      f"no {what} in {os.fspath(where)}: {how.rstrip('.')}. If it is elsewhere:"
      " --data_dir=FOLDER, or the environment variable PERCEIVER_DATA=FOLDER"
  )


@contextlib.contextmanager
def naming(
    where: str | os.PathLike[str], kind: type[DataError] = DataError
) -> Iterator[None]:
  """Turns any error of a library about a file into one line that names it.

  Parsers of damaged files raise errors of all kinds. What the disk or the
  system says, as that there is no such file, stays as it is, and so does a
  DataError.

  Args:
    where: the file, and a place in it.
    kind: class of the raised errors.
  """
  try:
    yield
  except DataError:
    raise
  except Exception as error:
    # Parsers raise an OSError too: without a number, or for a negative place.
    if isinstance(error, OSError) and error.errno in errno.errorcode:
      if error.errno != errno.EINVAL:
        raise
    raise kind(f"{os.fspath(where)}: {_gist(error)}") from error


class Named:
  """Examples by index, with errors that name the damaged file."""

  def __init__(self, examples: Any, where: str):
    """Wraps them.

    Args:
      examples: by index; they can be pickled.
      where: they are.
    """
    self._examples, self._where = examples, where

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Any:
    """One of them.

    Raises:
      DataError: if it cannot be read; says which one.
    """
    with naming(f"{self._where}: example {index}"):
      return self._examples[index]


def opened(path: str | os.PathLike[str]) -> BinaryIO:
  """Opens a regular file for reading.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if it is none, but a folder or a pipe, which may never end.
  """
  if not stat.S_ISREG(os.stat(path).st_mode):
    raise DataError(f"{os.fspath(path)} is not a regular file")
  return open(path, "rb")


def content(path: str | os.PathLike[str]) -> bytes:
  """The content of a regular file; raises as `opened`."""
  with opened(path) as file:
    return file.read()


def text(path: str | os.PathLike[str]) -> str:
  """The content of a UTF-8 text file, without a byte order mark.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if it is another file.
  """
  with naming(path):
    return content(path).decode("utf-8-sig")


def _gist(error: Exception) -> str:
  """A library's message on one line of limited length."""
  if isinstance(error, UnicodeDecodeError):
    return f"expected UTF-8, found {error.reason} at byte {error.start}"
  said = " ".join(f"{type(error).__name__}: {error}"[:2000].split())
  return "".join(c if c.isprintable() else "?" for c in said)[:300]
