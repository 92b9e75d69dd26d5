"""Files that are complete whenever they exist."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import csv
import io
import json
import os
import pathlib
from typing import Any

from experiments.data import errors

# How the name of a file begins that is not complete.
PARTIAL = ".partial-"


@contextlib.contextmanager
def complete(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A temporary file that gets its name when the block ends.

  That place is beside it, another one for each process, and has its ending.
  After an error, nothing is there; a process that is killed may leave a file
  whose name begins with `PARTIAL`.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
  try:
    yield partial
    with partial.open("rb") as file:
      os.fsync(file.fileno())  # Its name must not outlive its content.
    partial.replace(path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def write(path: pathlib.Path, content: bytes) -> None:
  """Writes a file of bytes."""
  with complete(path) as partial:
    partial.write_bytes(content)


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes a file for `read_json`."""
  write(path, (json.dumps(value, indent=1) + "\n").encode("utf-8"))


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The content of a file of `write_json`.

  Raises:
    FileNotFoundError: if it is not there.
    DataError: if it is something else.
  """
  with errors.naming(path):
    value = json.loads(errors.text(path))
  if not isinstance(value, dict):
    raise errors.DataError(f"{path} is a {type(value).__name__}, not an object")
  return value


def write_table(path: pathlib.Path, rows: Iterable[Iterable[Any]]) -> None:
  """Writes a file of comma-separated values."""
  text = io.StringIO()
  csv.writer(text).writerows(rows)
  # Names of files may be of any bytes.
  write(path, text.getvalue().encode("utf-8", "surrogateescape"))
