"""Published files: finds them, checks them, downloads or asks for them."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import hashlib
import pathlib
from typing import NamedTuple

from experiments.data.errors import DataError


class File(NamedTuple):
  """A published file."""

  name: str
  size: int  # Bytes; 0: it is not compared.
  url: str  # Of the file; of one without a hash, of the page that leads to it.
  sha256: str = ""  # Empty: it may not be downloaded by a program.

  def __str__(self) -> str:
    size = f"{size_of(self.size)}, " if self.size else ""
    return f"{self.name} ({size}{self.url})"


class MissingError(DataError):
  """Missing files, which are in `files`; the message names the first."""

  def __init__(self, message: str, files: Sequence[File]):
    super().__init__(message)
    self.files = files


# Downloads a file to a path; an error of any kind says why it could not.
Fetch = Callable[[File, pathlib.Path], None]


def size_of(count: int) -> str:
  """A formatted number of bytes, such as "170.1 MB"."""
  size, unit = float(count), "bytes"
  for unit in ("bytes", "kB", "MB", "GB"):
    if size < 1000 or unit == "GB":
      break
    size /= 1000
  return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def found(
    files: Iterable[File], folders: Sequence[pathlib.Path], fetch: Fetch
) -> list[pathlib.Path]:
  """The paths of files; downloads missing ones if possible.

  Args:
    files: required files.
    folders: possible folders; files are downloaded to the first.
    fetch: downloads one of them.

  Returns:
    the path of each.

  Raises:
    MissingError: if some are missing and do not come; it says what to do.
    DataError: if one is another file.
  """
  paths, missing, reason = [], [], ""
  for file in files:
    here = [folder / file.name for folder in folders]
    path = next(filter(pathlib.Path.is_file, here), None)
    if path is None and file.sha256 and not reason:
      path = here[0]
      try:
        fetch(file, path)
      except Exception as error:  # Whatever stands between us and a server.
        path, reason = None, f"; the download failed: {error}"
    if path is None:
      missing.append(file)
      continue
    _check(path, file)
    paths.append(path)
  if missing:
    first, *others = missing
    more = f" and {len(others)} more" if others else ""
    raise MissingError(
        f"missing files: {first}{more}{reason}. Download them by hand to"
        f" {folders[0]}, or name their folder with --manual_dir",
        missing,
    )
  return paths


def _check(path: pathlib.Path, file: File) -> None:
  """Compares a file with its published size and hash.

  Raises:
    DataError: if it is another one.
  """
  size = path.stat().st_size
  if file.size and size != file.size:
    raise DataError(
        f"{path} has {size:,} bytes, and {file.name} as published has"
        f" {file.size:,}: it is truncated, or another file"
    )
  if file.sha256:
    with path.open("rb") as stream:
      digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
      raise DataError(f"{path} has sha256 {digest}, not {file.sha256}")
