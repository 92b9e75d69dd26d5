"""What builders of data sets share."""

import pathlib
import sys
from typing import Any


def manual_folder(dl_manager: Any) -> pathlib.Path:
  """The folder with what a person has downloaded by hand.

  Raises:
    FileNotFoundError: if there is none; says what should be in it.
  """
  try:
    return pathlib.Path(dl_manager.manual_dir)
  except AssertionError as error:  # It says what is missing.
    raise FileNotFoundError(str(error)) from error


def note(message: str) -> None:
  """Tells a person something, on a line of its own, not behind TFDS's bar."""
  print(f"\nnote: {message}", file=sys.stderr)
