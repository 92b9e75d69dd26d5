"""Shared code of builders of data sets."""

import sys


def note(message: str) -> None:
  """Prints a note on a separate line, after TFDS's progress bar."""
  print(f"\nnote: {message}", file=sys.stderr)
