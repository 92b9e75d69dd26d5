"""Shared code of builders of data sets."""

import pathlib
import sys
from typing import Any


def manual_folder(dl_manager: Any) -> pathlib.Path:
  """The folder of manual downloads.

  Raises:
    FileNotFoundError: if there is none; says what should be in it.
  """
  try:
    return pathlib.Path(dl_manager.manual_dir)
  except AssertionError as error:  # It says what is missing.
    raise FileNotFoundError(str(error)) from error


def note(message: str) -> None:
  """Prints a note on a separate line, after TFDS's progress bar."""
  print(f"\nnote: {message}", file=sys.stderr)
